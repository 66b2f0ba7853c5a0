-- The life of a push: opened, planned, frozen, steered, closed.

-- name: find
select push_no from push where push_id = $1

-- name: look
-- What a start refers to; its content is kept for it. $1 app $2 digest of its content $3 the push it retries
with used as (
  update content c set created_at = now() from app a
  where a.name = $1 and c.app_no = a.app_no and c.digest = $2 and c.created_at < now() - interval '1 day'
)
select a.app_no, c.message, p.push_no as retry_of, p.dedup_no, p.closed_at is not null as retry_is_closed
from app a
left join content c on c.app_no = a.app_no and c.digest = $2
left join push p on p.push_id = $3 and p.app_no = a.app_no
where a.name = $1

-- name: lock
-- Of two that would take rows of one push at once the second sees the first. $1 push_id
select from push where push_id = $1 for no key update

-- name: known
-- $1 push_id $2 spec hash
select
  push_no, hold, result,
  case when spec_hash <> $2 then 'different' when closed_at is null then 'open' else 'closed' end as opened
from push where push_id = $1

-- name: open
-- One push for an id, for ever: of concurrent openers one wins, all read the same.
-- $1 push_id $2 spec $3 spec hash $4 planned time $5 app $6 campaign $7 retry_of $8 dedup_no of that
-- $9 priority $10 kind $11 mask $12 guarantee $13 weight $14 pace $15 deadline $16 message $17 who started it
-- (null: a campaign has, whose start stands in the audit)
with planned as materialized (
  select greatest(coalesce($4::timestamptz, now()), now()) as at
), place as materialized (
  select at, make_day((at at time zone 'UTC')::date) as made from planned
), number as materialized (
  select (extract(epoch from at)::bigint << 20) + nextval('push_n') as push_no, at from place where made
), opened as (
  insert into push (
    push_no, push_id, spec, spec_hash, app_no, campaign_id, retry_of, dedup_no,
    priority, kind, mask, guarantee, weight, pace, deadline, send_at)
  select
    push_no, $1, $2, $3, $5, $6, $7, coalesce($8::bigint, push_no),
    $9, $10, $11, $12, $13, coalesce($14::real, 'Infinity'), coalesce($15::timestamptz, 'infinity'), at
  from number
  on conflict (push_id) do update set spec_hash = push.spec_hash -- nothing new, but the row is read
  returning
    push_no, hold, result, send_at, control_word(push) as word,
    case
      when old.push_no is null then 'new'
      when old.spec_hash <> $3 then 'different'
      when old.closed_at is null then 'open'
      else 'closed'
    end as opened
), content as (
  insert into push_content (push_no, version, message)
  select push_no, 1, $16::jsonb from opened where opened = 'new'
), said as (
  insert into audit (command_id, push_no, who, way, what, args, before, after, answer)
  select
    gen_random_uuid(), push_no, $17, 'start', 'start', jsonb_build_object('send_at', send_at), '{}', word,
    '{"ok": true}'
  from opened where opened = 'new' and $17::text is not null
)
select push_no, hold, result, opened from opened

-- name: facts
select
  p.push_no, p.push_id, p.app_no, a.name as app, p.campaign_id, p.retry_of, p.dedup_no, p.priority, p.kind,
  p.mask, p.guarantee, p.weight, p.send_at, nullif(p.deadline, 'infinity') as deadline
from push p join app a using (app_no)
where p.push_no = $1

-- name: message
select message from push_content where push_no = $1 and version = $2

-- name: add_content
-- The same words again are the version that they were. $1 push $2 message
with known as (
  select max(version) as version from push_content where push_no = $1 and message = $2::jsonb
), added as (
  insert into push_content (push_no, version, message)
  select $1, (select coalesce(max(version), 0) + 1 from push_content where push_no = $1), $2::jsonb
  from known where known.version is null
  returning version
)
select coalesce((select version from added), (select version from known))

-- name: to_plan
select
  p.app_no, p.kind, p.ranges, p.priority, p.estimated_rows, p.batch_size, p.retry_of, p.hold,
  p.spec->'audience' as audience,
  (select min(user_no) from usr u where u.app_no = p.app_no) as first_user,
  (select max(user_no) from usr u where u.app_no = p.app_no) as last_user
from push p where push_no = $1

-- name: estimate
-- Active registrations of an app and kind: counted in at most about 2,000 pages, and in all of a small table.
with sample as materialized (
  select least(1.0, 2000 / greatest(pg_relation_size('registration') / 8192.0, 1)) as part
)
select (count(*) / (select part from sample))::bigint
from registration
  tablesample system (100 * least(1.0, 2000 / greatest(pg_relation_size('registration') / 8192.0, 1)))
where app_no = $1 and kind = $2 and status = 1

-- name: ended_so
-- Whether there is anything to retry. $1 push $2 states $3 reasons (null: any)
select exists (
  select from delivery_now
  where push_no = $1 and state = any ($2::smallint[]) and ($3::smallint[] is null or reason = any ($3))
    and not passed_on)

-- name: frozen_ranges
-- What a retry may take rows from. $1 push
select range_no from audience_range where push_no = $1 and frozen_at is not null order by 1

-- name: add_ranges
-- Ranges are added once. $1 push $2 ranges there so far (0: the plan) $3 what $4 los $5 his $6 of_push
-- $7 estimated rows $8 batch size. No row: there were others, the push is closing, or a word that came while
-- its plan was made has moved it: what was acknowledged holds
with grown as (
  update push set
    ranges = ranges + cardinality($4::bigint[]),
    started_at = coalesce(started_at, now()),
    estimated_rows = case ranges when 0 then $7 else estimated_rows end,
    batch_size = case ranges when 0 then $8 else batch_size end
  where push_no = $1 and ranges = $2 and hold < 3 and (ranges > 0 or send_at <= now())
  returning ranges
), added as (
  insert into audience_range (push_no, range_no, what, lo, hi, of_push)
  select $1, $2 + o - 1, $3, lo, hi, $6
  from grown, unnest($4::bigint[], $5::bigint[]) with ordinality x (lo, hi, o)
)
select ranges from grown

-- name: to_fall_back
-- What may be tried through another lane: the ranges there are, and how many of their rows ended so. No row:
-- something is still open or not frozen, it closes, or it was done before. $1 push
select p.ranges, (
  select coalesce(sum(rejected + dead), 0)::bigint from batch b where b.push_no = p.push_no) as rows
from push p
where p.push_no = $1 and p.hold < 2 and p.deadline > now()
  and not exists (
    select from audience_range r where r.push_no = p.push_no and (r.frozen_at is null or r.what = 1))
  and not exists (select from batch b where b.push_no = p.push_no and b.open > 0)

-- name: to_move
-- What waits in blocked lanes while nothing else is open: the ranges there are, and its rows. No row: something
-- may still go out, nothing waits, it is held or closes, or it was done before. $1 push
select p.ranges, o.rows
from push p
cross join lateral (
  select
    sum(b.open)::bigint as rows,
    bool_and(exists (
      select from credential_state s where s.app_no = p.app_no and s.lane = b.lane and s.blocked)) as blocked
  from batch b where b.push_no = p.push_no and b.open > 0) o
where p.push_no = $1 and p.hold < 2 and p.deadline > now() and o.blocked
  and not exists (
    select from audience_range r where r.push_no = p.push_no and (r.frozen_at is null or r.what = 3))

-- name: range
-- $1 push $2 range_no
select
  r.what, r.lo, r.hi, r.of_push, r.frozen_at, p.batch_size, p.mask, p.app_no, p.kind, p.priority,
  (
    select c.message->'badge' from push_content c where (c.push_no, c.version) = (p.push_no, p.content_version)
  ) as badge,
  p.spec->'audience' as audience,
  a.lane_order || array(
    select lane from credential c
    where c.app_no = p.app_no and c.lane <> all (a.lane_order) order by lane) as lanes,
  (select jsonb_object_agg(c.lane, c.provider) from credential c where c.app_no = p.app_no) as providers
from audience_range r
join push p using (push_no)
join app a using (app_no)
where r.push_no = $1 and r.range_no = $2

-- name: rows_of_users
-- One registration a phone: of those that fit it, if any does, the first in the app's order of lanes. $5 lo $6 hi $7 mask $8 app $9 kind, then the rule's.
-- How it is carried out does not depend on statistics, which a fresh import does not have yet: a phone is
-- looked up by its number (offset 0), {registrations} says how users find theirs.
select distinct on (u.user_no, r.device_no)
  u.user_no, r.registration_no, r.lane,
  coalesce(d.locale, u.locale, 0::smallint) as locale,
  ({variant})::smallint as variant,
  coalesce({opens}, '-infinity') as opens,
  case when u.optout & $7 <> 0 then 3 else 0 end::smallint as reason
from mine m
cross join usr u
{registrations}
cross join lateral (select * from device x where x.device_no = r.device_no offset 0) d
where m.what = 0
  and u.app_no = $8 and u.user_no >= $5 and u.user_no < $6
  and r.status = 1 and r.kind = $9 and r.lane = any ($4::smallint[])
  and ({audience})
order by u.user_no, r.device_no, {unfit}array_position($4::smallint[], r.lane)

-- name: registrations_of_many
-- Most users of the range: both tables are read in order and merged (nested loops are switched off).
join registration r on r.user_no = u.user_no and r.user_no >= $5 and r.user_no < $6

-- name: registrations_of_few
-- Few users of the range, named by the rule: each is looked up.
cross join lateral (select * from registration x where x.user_no = u.user_no and x.status = 1 offset 0) r

-- name: rows_of_fallback
-- The same phones, by their next lane without a row in this push. $5 $6 batches $7 mask $8 app $9 kind
-- $10 states. Only when nothing is open in those batches
select distinct on (r.user_no, r.device_no)
  r.user_no, r.registration_no, r.lane, o.locale, o.variant,
  '-infinity'::timestamptz as opens,
  case when u.optout & $7 <> 0 then 3 else 0 end::smallint as reason
from mine m
join batch b on b.push_no = $1 and b.batch >= $5 and b.batch < $6 and not b.fell_back
join delivery o on o.push_no = $1 and o.batch = b.batch and o.state = any ($10::smallint[]) and not o.passed_on
join registration f on f.registration_no = o.registration_no
join registration r on r.device_no = f.device_no and r.app_no = $8 and r.kind = $9
  and r.user_no = o.user_no and r.status = 1 and r.lane = any ($4::smallint[])
join usr u on u.user_no = r.user_no
join device d on d.device_no = r.device_no
where m.what = 1
  and not exists (
    select from credential_state s where s.app_no = r.app_no and s.lane = r.lane and s.blocked)
  and not exists (
    select from delivery e
    where e.push_no = $1 and e.user_no = r.user_no and e.registration_no = r.registration_no)
order by r.user_no, r.device_no, {unfit}array_position($4::smallint[], r.lane)

-- name: lock_blocked
-- Batches that wait in a blocked lane and are in nobody's hands; nobody takes them until we commit.
-- $1 push $2 $3 batches
select b.batch
from batch b
where b.push_no = $1 and b.batch >= $2 and b.batch < $3 and b.closed = 0 and b.open > 0 and not b.fell_back
  and (b.lease_until is null or b.lease_until < clock_timestamp())
  and exists (
    select from push p join credential_state s using (app_no)
    where p.push_no = $1 and s.lane = b.lane and s.blocked)
order by b.batch
for no key update

-- name: rows_of_blocked
-- Of those batches ($10) the phones that nothing can have reached, by their next lane without a row in this
-- push. $5 $6 are not looked at. $7 mask $8 app $9 kind
select distinct on (r.user_no, r.device_no)
  r.user_no, r.registration_no, r.lane, o.locale, o.variant, b.opens_at as opens,
  case when u.optout & $7 <> 0 then 3 else 0 end::smallint as reason
from mine m
join batch b on b.push_no = $1 and b.batch >= $5 and b.batch < $6 and b.batch = any ($10::int[])
join delivery o on o.push_no = $1 and o.batch = b.batch and not o.doubt
  and (o.state = 1 or o.state = 0 and o.seq > b.claimed_to)
join registration f on f.registration_no = o.registration_no
join registration r on r.device_no = f.device_no and r.app_no = $8 and r.kind = $9
  and r.user_no = o.user_no and r.status = 1 and r.lane = any ($4::smallint[])
join usr u on u.user_no = r.user_no
join device d on d.device_no = r.device_no
where m.what = 3
  and exists (select from credential_state s where s.app_no = $8 and s.lane = b.lane and s.blocked)
  and not exists (
    select from credential_state s where s.app_no = r.app_no and s.lane = r.lane and s.blocked)
  and not exists (
    select from delivery e
    where e.push_no = $1 and e.user_no = r.user_no and e.registration_no = r.registration_no)
order by r.user_no, r.device_no, {unfit}array_position($4::smallint[], r.lane)

-- name: rows_of_retry
-- Final rows of a closed push; what became of a registration since, READ decides.
-- $5 $6 batches $7 mask $8 states $9 the closed push $10 reasons (null: any)
select
  o.user_no, o.registration_no, o.lane, o.locale, o.variant,
  '-infinity'::timestamptz as opens,
  case when u.optout & $7 <> 0 then 3 else 0 end::smallint as reason
from mine m
join delivery_now o on o.push_no = $9 and o.batch >= $5 and o.batch < $6
  and o.state = any ($8::smallint[]) and o.lane = any ($4::smallint[])
  and ($10::smallint[] is null or o.reason = any ($10))
  and not o.passed_on
left join usr u on u.user_no = o.user_no
where m.what = 2

-- name: write_rows
-- A range is frozen once, whoever tries. $1 push $2 range_no $3 rows a batch $4 order of lanes, then {rows}'
with mine as (
  update audience_range set frozen_at = now()
  where push_no = $1 and range_no = $2 and frozen_at is null
  returning what
), chosen as materialized (
{rows}
), groups as materialized ( -- a batch is of one lane and one wave
  select lane, opens, (sum(batches) over (order by lane, opens) - batches)::int as base
  from (select lane, opens, ceil(count(*) / $3::float8) as batches from chosen group by lane, opens) g
), placed as materialized (
  select
    user_no, registration_no, lane, locale, variant, reason, opens,
    -- more than 10,000 batches in a range is an error: batch is not null
    case when base + p / $3::int < 10000 then $2 * 10000 + base + p / $3::int end::int as batch,
    (p % $3::int)::smallint as seq
  from (
    select chosen.*, row_number() over (partition by lane, opens order by locale, variant, user_no) - 1 as p
    from chosen) numbered
  join groups using (lane, opens)
  order by lane, opens, p
), batches as (
  insert into batch (push_no, batch, lane, size, suppressed, opens_at, fell_back)
  select $1, batch, lane, count(*), count(*) filter (where reason > 0), opens, (select what in (1, 3) from mine)
  from placed group by batch, lane, opens
)
insert into delivery (push_no, user_no, registration_no, at, batch, seq, state, reason, variant, locale)
select
  $1, user_no, registration_no, now(), batch, seq,
  case when reason > 0 then 4 else 0 end, reason, variant, locale
from placed

-- name: pass_on
-- The rows that a fallback has just written take over from those that ended, which say so from now on.
-- $1 push $2 its range $3 $4 the batches that it was made of
update delivery o set passed_on = true
from delivery d
join registration r on r.registration_no = d.registration_no
where d.push_no = $1 and d.batch >= $2 * 10000 and d.batch < ($2 + 1) * 10000
  and o.push_no = $1 and o.user_no = d.user_no and o.batch >= $3 and o.batch < $4
  and exists (
    select from registration x
    where x.registration_no = o.registration_no and x.device_no = r.device_no)

-- name: move
-- The rows that a range of blocked phones has just written take over: those that waited end, and say so. The
-- epoch goes up, so that an attempt which sleeps since before the block starts none of them.
-- $1 push $2 its range $3 the batches that were locked for it $4 reason
with moved as (
  update delivery o set passed_on = true, state = 3, reason = $4, at = now()
  from delivery d
  join registration r on r.registration_no = d.registration_no
  where d.push_no = $1 and d.batch >= $2 * 10000 and d.batch < ($2 + 1) * 10000
    and o.push_no = $1 and o.user_no = d.user_no and o.batch = any ($3::int[]) and o.state < 2 and not o.doubt
    and exists (
      select from registration x
      where x.registration_no = o.registration_no and x.device_no = r.device_no)
  returning o.batch, old.state as was
), sums as (
  select batch, count(*) as rows, count(*) filter (where was = 1) as retries from moved group by batch
), counted as (
  update batch b set
    rejected = rejected + s.rows,
    retry = retry - s.retries,
    due_at = case when retry > s.retries then due_at end,
    epoch = epoch + 1, owner = null, process = null, lease_until = null
  from sums s
  where b.push_no = $1 and b.batch = s.batch
  returning b.lane, s.rows
)
select c.provider, sum(counted.rows)::bigint as rows
from counted
join push p on p.push_no = $1
join credential c on c.app_no = p.app_no and c.lane = counted.lane
group by c.provider

-- name: count_badges
-- The badge of every phone in a range that was written just now goes up, and its row keeps the number. In the
-- phones' order: of two pushes that count the same phones one waits for the other.
-- $1 push $2 range_no $3 how far up $4 the most that a badge can be
with written as materialized (
  select d.batch, d.seq, r.device_no
  from delivery d join registration r using (registration_no)
  where d.push_no = $1 and d.batch >= $2 * 10000 and d.batch < ($2 + 1) * 10000 and d.state = 0
    and d.badge = 0
), counted as (
  insert into badge as b (device_no, number) select device_no, $3 from written order by device_no
  on conflict (device_no) do update set number = least(b.number::int + $3, $4)
  returning device_no, number
)
update delivery d set badge = c.number
from written w join counted c using (device_no)
where d.push_no = $1 and d.batch = w.batch and d.seq = w.seq

-- name: repeat_badges
-- A retry, and another try of a phone, show the number of the first. $1 push $2 range_no $3 of which push
-- $4 $5 of which of its batches
update delivery d set badge = o.badge
from delivery o
join registration x on x.registration_no = o.registration_no
join registration r on r.device_no = x.device_no
where d.push_no = $1 and d.batch >= $2 * 10000 and d.batch < ($2 + 1) * 10000
  and o.push_no = $3 and o.batch >= $4 and o.batch < $5
  and d.registration_no = r.registration_no

-- name: badge
-- What the content in force says of it. $1 push
select c.message->'badge' as badge
from push p join push_content c on (c.push_no, c.version) = (p.push_no, p.content_version)
where p.push_no = $1

-- name: gate
-- Nothing is born behind a close: this sees a hold committed meanwhile, and a later one waits for our commit.
select hold from push where push_no = $1 for share

-- name: command
-- $1 push $2 command id $3 who $4 way $5 what $6 args
select command($1, $2, $3, $4, $5, $6)

-- name: hold
select hold from push where push_no = $1

-- name: is_approved
-- Whether it says what somebody has approved: then it is not edited behind their back. $1 push
select exists (
  select from push p join campaign c on c.campaign_id = p.campaign_id and c.app_no = p.app_no
  where p.push_no = $1 and c.spec ? 'approval')

-- name: close_push
select close_push($1)

-- name: providers
select distinct provider from credential where app_no = $1 and secret is not null order by 1
