-- A phone that one provider refuses is tried through its next one, once: its second row lies in a batch that
-- says so, and its first row, which stays as it ended, says that there is another.
alter table batch add column fell_back boolean not null default false;
alter table delivery add column passed_on boolean not null default false;

create or replace view delivery_now as
select
  d.push_no, d.batch, d.seq, d.user_no, d.registration_no, b.lane,
  case when d.state < 2 and b.closed > 0 then b.closed else d.state end as state,
  d.reason, d.variant, d.locale, d.content_version, d.attempt, d.at, d.doubt, d.passed_on
from delivery d
join batch b using (push_no, batch);

-- audience = the sum of everything up to in_doubt; fell_back: of it, second rows of phones. Phones are counted
-- once by audience - fell_back.
create or replace view push_counts as
select
  push_no, lane,
  sum(size) as audience, sum(open - retry) as planned, sum(retry) as retry,
  sum(accepted) as accepted, sum(rejected) as rejected, sum(suppressed) as suppressed,
  sum(expired) as expired, sum(cancelled) as cancelled, sum(dead) as dead, sum(in_doubt) as in_doubt,
  sum(redo) as redo, sum(maybe) as maybe,
  coalesce(sum(size) filter (where fell_back), 0) as fell_back
from batch
group by push_no, lane;
