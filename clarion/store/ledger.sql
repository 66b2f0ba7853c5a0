-- The ledger's hot statements: each is one round trip, one transaction, and safe to repeat.
-- None has a join whose plan depends on statistics: a new partition has none.

-- name: take
-- One holder. $1 push $2 batch $3 owner: a uuid made by the attempt itself, whose repeat takes again
-- $4 process $5 lease
select * from take($1, $2, $3, $4, $5)

-- name: read
-- The planned rows after seq $3, as the registry is now. $1 push $2 batch $4 limit $5 mask of opt-out bits
-- $6 whether the message needs the user's values $7 whether it needs the phone's badge: it comes among the
-- values, under a name that no text can say; 0, a phone that was not counted, is a value that is missing
-- drop: 1 the registration was retired or is gone, 2 it is another user's, 3 the user opted out
select
  d.seq, d.registration_no, d.user_no, r.token, d.variant, d.locale, d.attempt,
  case
    when r.registration_no is null or r.status <> 1 then 1
    when r.user_no <> d.user_no then 2
    when u.user_no is null or u.optout & $5 <> 0 then 3
    else 0
  end as drop,
  case
    when $7 then coalesce(case when $6 then u.attributes end, '{}')
      || jsonb_build_object('+badge', nullif(d.badge, 0))
    when $6 then u.attributes
  end as values
from delivery d
left join registration r on r.registration_no = d.registration_no
left join usr u on u.user_no = d.user_no
where d.push_no = $1 and d.batch = $2 and d.seq > $3 and d.state = 0
order by d.seq
limit $4

-- name: step
-- Answers from anybody, decisions and claims from the holder only; counters move with the rows; dead
-- addresses queue with their answer. A repeat changes nothing.
-- $1 push $2 batch $3 epoch
-- $4 seqs $5 the first of them $6 codes: a byte for each seq from $5 on $7 reasons, likewise (may be shorter)
-- $8 $9 seqs to be tried again, and in how many seconds $10 content version
-- $11 claim up to this seq (-1: only renew lease and word; null: write only) $12 lease
-- $13 $14 seqs whose answer kills their address, and since when it is dead
--
-- Codes: 2 accepted, 3 rejected: answers. 0 not sent, 1 refused, 9 and 10 maybe: goes again (maybe, at most
-- once: in doubt). 4 suppressed, 5 expired, 7 dead, 8 in doubt. 0, 4, 5 and 10 count as no attempt.
with b as materialized (
  select epoch, closed, lane from batch where push_no = $1 and batch = $2 for no key update
), word as materialized (
  select
    b.epoch = $3 and b.closed = 0 as mine,
    b.closed, b.lane,
    p.guarantee, p.control_version, p.hold, p.pace, p.content_version,
    nullif(p.deadline, 'infinity') as deadline,
    coalesce(s.blocked, false) as blocked,
    $11::int is not null and b.epoch = $3 and b.closed = 0
      and p.hold < 2 and now() < p.deadline and not coalesce(s.blocked, false) as granted
  from b
  join push p on p.push_no = $1
  left join credential_state s on s.app_no = p.app_no and s.lane = b.lane
), written as (
  update delivery d set
    state = case
      when get_byte($6, d.seq - $5) in (2, 3) then get_byte($6, d.seq - $5)
      when get_byte($6, d.seq - $5) in (0, 1) then 1
      when get_byte($6, d.seq - $5) in (9, 10) then case (select guarantee from word) when 2 then 8 else 1 end
      when d.doubt then 8 -- what may have arrived can only end as an answer or in doubt
      else get_byte($6, d.seq - $5)
    end,
    doubt = d.doubt or get_byte($6, d.seq - $5) in (9, 10),
    reason = coalesce(($7::smallint[])[d.seq - $5 + 1], 0),
    content_version = $10,
    at = now() + coalesce(($9::real[])[array_position($8::smallint[], d.seq)], 0) * interval '1 s',
    attempt = d.attempt + case when get_byte($6, d.seq - $5) in (0, 4, 5, 10) then 0 else 1 end
  where (select true from word) -- the batch is locked first
    and d.push_no = $1 and d.batch = $2 and d.seq = any ($4::smallint[])
    and case
      when get_byte($6, d.seq - $5) in (2, 3) then d.state not in (2, 3) -- the first answer stays
      else d.state = 0 and (select mine from word)
    end
  returning
    case when old.state < 2 and (select closed from word) > 0 then (select closed from word) else old.state end as was,
    new.state as is_now, new.at as due, d.seq, d.registration_no, d.reason
), moved as (
  select
    count(*) as rows,
    count(*) filter (where is_now = 1) - count(*) filter (where was = 1) as retry,
    count(*) filter (where is_now = 2) as accepted,
    count(*) filter (where is_now = 3) as rejected,
    count(*) filter (where is_now = 4) - count(*) filter (where was = 4) as suppressed,
    count(*) filter (where is_now = 5) - count(*) filter (where was = 5) as expired,
    -count(*) filter (where was = 6) as cancelled,
    count(*) filter (where is_now = 7) - count(*) filter (where was = 7) as dead,
    count(*) filter (where is_now = 8) - count(*) filter (where was = 8) as in_doubt,
    count(*) filter (where get_byte($6, seq - $5) in (9, 10)) as maybe,
    min(due) filter (where is_now = 1) as first_due
  from written
), queued as (
  insert into retire (push_no, batch, seq, lane, registration_no, seen, reason)
  select
    $1, $2, w.seq, word.lane, w.registration_no,
    ($14::timestamptz[])[array_position($13::smallint[], w.seq)], w.reason
  from written w, word
  where w.seq = any ($13::smallint[])
), counted as (
  update batch t set
    retry = t.retry + m.retry,
    accepted = t.accepted + m.accepted,
    rejected = t.rejected + m.rejected,
    suppressed = t.suppressed + m.suppressed,
    expired = t.expired + m.expired,
    cancelled = t.cancelled + m.cancelled,
    dead = t.dead + m.dead,
    in_doubt = t.in_doubt + m.in_doubt,
    maybe = t.maybe + m.maybe,
    due_at = least(t.due_at, m.first_due),
    begun = t.begun or word.granted and $11 >= 0,
    claimed_to = case when word.granted then greatest(t.claimed_to, $11) else t.claimed_to end,
    lease_until = case when word.granted then now() + $12::interval else t.lease_until end,
    takes = case when word.mine and m.rows > 0 and t.takes < 4 then 0 else t.takes end
  from word, moved m
  where t.push_no = $1 and t.batch = $2
)
select m.rows as written, word.*, m.accepted, m.rejected from word, moved m

-- name: release
-- A clean end: what never started is simply planned, nothing left on the wire is obeyed. No row: not ours.
update batch set
  epoch = epoch + 1, owner = null, process = null, lease_until = null, takes = 0, claimed_to = -1
where push_no = $1 and batch = $2 and epoch = $3 and closed = 0
returning open - retry as planned, retry, due_at

-- name: next_work
-- What the push loop needs, from batch rows only. A row for every lane (none yet: one row, lane null).
-- $1 push $2 batches in live children $3 batches a lane
-- work: planned rows may go, those that a dead attempt left come first, `left_over` of them in all;
-- again: only retries, due now
-- next_at: when more falls due; doing: batches that are not done under this hold
-- dues: moves whenever retries were tried, also when all of them failed again
-- falls_back: once nothing is open, those that ended rejected or dead may have another lane
-- moves: all that is open waits in blocked lanes and in nobody's hands, and there is a lane that is not blocked
with p as materialized (
  select
    push_no, app_no, priority, control_version, hold, hold_by, hold_reason, verdict, deadline, send_at,
    started_at, closed_at, ranges,
    array(
      select range_no from audience_range
      where push_no = $1 and frozen_at is null order by 1 limit 50) as to_freeze,
    coalesce((spec->>'fallback')::boolean, true)
      and not exists (select from audience_range where push_no = $1 and what = 1)
      and exists (select from credential c where c.app_no = push.app_no offset 1) as may_fall_back,
    coalesce((spec->>'fallback')::boolean, true)
      and not exists (select from audience_range where push_no = $1 and (what = 3 or frozen_at is null))
      and exists (
        select from credential c where c.app_no = push.app_no and not exists (
          select from credential_state s where (s.app_no, s.lane) = (c.app_no, c.lane) and s.blocked)) as may_move
  from push where push_no = $1
), b as materialized (
  select
    lane, batch, size, retry, open, claimed_to, rejected + dead as failed,
    open > 0 and ((select hold from p) <> 1 or begun) as todo,
    greatest(lease_until, opens_at, case when open = retry then due_at end) as at,
    open > 0 and lease_until > now() as leased,
    case when retry > 0 then extract(epoch from due_at)::float8 end as due
  from batch where push_no = $1
), l as materialized (
  select
    lane,
    array_agg(batch order by claimed_to < 0, batch) filter (where free and open > retry) as work,
    array_agg(batch order by batch) filter (where free and open = retry) as again,
    count(*) filter (where free and open > retry and claimed_to >= 0) as left_over,
    min(at) filter (where todo and at > now()) as next_at,
    count(*) filter (where todo) as doing,
    count(*) filter (where open > 0) as unfinished, count(*) filter (where leased) as leased,
    sum(size) as audience, sum(open - retry) as planned, sum(retry) as retry, sum(failed) as failed,
    coalesce(sum(due order by batch), 0) as dues
  from (select *, todo and at <= now() and batch <> all ($2::int[]) as free from b) free
  group by lane
)
select
  p.control_version, p.hold, p.hold_by, p.hold_reason, p.verdict, nullif(p.deadline, 'infinity') as deadline,
  p.deadline <= now() as overdue, p.send_at, p.started_at, p.closed_at, p.ranges, p.to_freeze, now() as now,
  l.lane, c.provider, l.work[1:$3] as work, l.again[1:$3] as again, l.left_over, l.next_at, l.doing,
  l.audience, l.planned, l.retry, l.dues,
  coalesce(s.blocked, false) as blocked, s.reason as blocked_reason,
  (
    select count(*) from worker w
    where w.seen_at > now() - interval '15 s'
      and 'send-' || c.provider || case p.priority when 1 then '-high' else '' end = any (w.queues)
  ) as senders,
  p.may_fall_back and coalesce(sum(l.failed) over (), 0) > 0 as falls_back,
  p.may_move and coalesce(
    sum(l.unfinished) over () > 0 and sum(l.leased) over () = 0
    and bool_and(l.unfinished = 0 or coalesce(s.blocked, false)) over (), false) as moves
from p
left join l on true
left join credential c on c.app_no = p.app_no and c.lane = l.lane
left join credential_state s on s.app_no = p.app_no and s.lane = l.lane
order by l.lane

-- name: retire
-- Retires what was not registered again since, in registration order, any number of times.
-- $1 push $2 reasons that mean "wrong device for this credential" $3 entries a call
-- Such entries wait for 200 answers of their lane, or its end; from 30 % on they are dropped: it is the
-- credential that is wrong.
with entry as materialized (
  select batch, seq, lane, registration_no, seen, reason, reason = any ($2::smallint[]) as suspect
  from retire where push_no = $1
  order by batch, seq limit $3 for update skip locked
), lanes as materialized (
  select
    l.*,
    coalesce(s.blocked and s.reason = any ($2::smallint[]), false) as blocked,
    answers >= 200 and (
      select count(*) from retire t
      where t.push_no = $1 and t.lane = l.lane and t.reason = any ($2::smallint[])) >= 0.3 * answers as wrong
  from (
    select lane, sum(accepted + rejected) as answers, sum(case closed when 0 then open else 0 end) as open
    from batch where push_no = $1 group by lane) l
  join push p on p.push_no = $1
  left join credential_state s on s.app_no = p.app_no and s.lane = l.lane
), judged as materialized (
  select
    entry.*,
    case
      when not suspect then 'retire'
      when blocked or wrong then 'drop'
      when answers < 200 and open > 0 then 'wait'
      else 'retire'
    end as fate,
    wrong and suspect and not blocked as alarm
  from entry join lanes using (lane)
), locked as materialized (
  select registration_no from registration
  where registration_no = any (array(select registration_no from judged where fate = 'retire'))
  order by 1 for no key update
), retired as (
  update registration r set status = 3, retired_at = x.seen, retired_reason = x.reason
  from (
    select registration_no, max(seen) as seen, (array_agg(reason order by seen desc))[1] as reason
    from judged where fate = 'retire' group by 1) x
  where r.registration_no = any (array(select registration_no from locked))
    and x.registration_no = r.registration_no
    and r.status <> 3 and r.registered_at <= x.seen
  returning r.app_no, r.lane, r.retired_reason
), counted as (
  update push set retired = push.retired + (select count(*) from retired)
  where push_no = $1 and exists (select from retired)
), handled as (
  delete from retire t using judged
  where t.push_no = $1 and t.batch = judged.batch and t.seq = judged.seq and judged.fate <> 'wait'
)
select
  count(*) filter (where fate <> 'wait') as handled,
  count(*) filter (where fate = 'wait') as waiting,
  (select count(*) from retired) as retired,
  array_agg(distinct lane) filter (where alarm) as wrong_lanes,
  (select jsonb_agg(jsonb_build_array(g.provider, g.reason, g.n)) from (
    select c.provider, coalesce(n.name, x.retired_reason::text) as reason, count(*) as n
    from retired x
    join credential c using (app_no, lane)
    left join reason n on n.reason_no = x.retired_reason
    group by 1, 2) g) as by_reason
from judged

-- name: close
-- No row is called expired or cancelled that may have been sent. $2 reason of rows in doubt $3 batches a call
select * from close_batches($1, $2, $3)

-- name: block
select block_lane($1, $2, $3, $4, $5, $6)
