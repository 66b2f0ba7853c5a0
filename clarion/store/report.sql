-- What people ask of the ledger. Costs grow with batches, not with rows, but for reconcile and explain.

-- name: progress
-- A row for every lane (none yet: one row, lane null). $1 push
select
  p.push_id, p.campaign_id,
  case
    when p.closed_at is not null then 'closed'
    when p.hold = 3 then 'closing'
    when p.started_at is null then 'scheduled'
    else 'running'
  end as phase,
  p.hold, p.hold_by, p.hold_reason, p.verdict, nullif(p.pace, 'Infinity') as pace,
  p.estimated_rows, p.started_at, p.send_at, nullif(p.deadline, 'infinity') as deadline, p.closed_at, p.result,
  now() as at,
  (select count(*) from audience_range r where r.push_no = p.push_no and r.frozen_at is null) as ranges_to_freeze,
  p.retired + (select count(*) from retire r where r.push_no = p.push_no) as invalid_tokens,
  c.provider, s.blocked, s.reason as blocked_reason, n.name as blocked_name,
  (
    select count(*) from worker w
    where w.seen_at > now() - interval '15 s'
      and 'send-' || c.provider || case p.priority when 1 then '-high' else '' end = any (w.queues)
  ) as senders,
  c.ceiling, clock() as clock,
  (select d.lanes->(p.app_no || '.' || l.lane) from dealer d where d.dealt_at > clock() - 5) as learned,
  l.*
from push p
left join lateral (
  select * from push_counts n where n.push_no = p.push_no
  union all -- past retention the batches are gone; what they came to is kept
  select p.push_no, kept.lane, audience, planned, retry, accepted, rejected, suppressed, expired, cancelled,
    dead, in_doubt, redo, maybe, coalesce(fell_back, 0) as fell_back
  from jsonb_to_recordset(p.result->'lanes') kept (
    lane smallint, audience bigint, planned bigint, retry bigint, accepted bigint, rejected bigint,
    suppressed bigint, expired bigint, cancelled bigint, dead bigint, in_doubt bigint, redo bigint, maybe bigint,
    fell_back bigint)
  where p.closed_at is not null and not exists (select from batch b where b.push_no = p.push_no)
) l on true
left join credential c on c.app_no = p.app_no and c.lane = l.lane
left join credential_state s on s.app_no = p.app_no and s.lane = l.lane
left join reason n on n.reason_no = s.reason
where p.push_no = $1
order by l.lane

-- name: counts
select * from push_counts where push_no = $1 order by lane

-- name: list
-- Newest planned time first. $1 app (null: all) $2 only open ones $3 before this push_no (null: from the
-- newest) $4 campaign (null: all) $5 limit
select
  p.push_no, p.push_id, a.name as app, p.campaign_id, p.spec->>'title' as title,
  case
    when p.closed_at is not null then 'closed'
    when p.hold = 3 then 'closing'
    when p.started_at is null then 'scheduled'
    else 'running'
  end as phase,
  p.hold, p.hold_by, p.hold_reason, p.verdict, p.send_at, p.closed_at
from push p join app a using (app_no)
where ($1::text is null or a.name = $1)
  and (not $2 or p.closed_at is null)
  and ($3::bigint is null or p.push_no < $3)
  and ($4::text is null or p.campaign_id = $4)
order by p.push_no desc
limit $5

-- name: spec
select spec from push where push_no = $1

-- name: chain
-- The push that it retries, that one's, and so on; and the retries of it. $1 push
with recursive before as (
  select push_no, push_id, retry_of from push where push_no = $1
  union all
  select p.push_no, p.push_id, p.retry_of from push p join before b on p.push_no = b.retry_of
), chain as (
  select push_no, push_id from before
  union
  select p.push_no, p.push_id from push p
  where p.retry_of is not null and p.dedup_no = (select dedup_no from push where push_no = $1) and p.push_no > $1
)
select push_no, push_id from chain order by push_no

-- name: history
-- The operators' words, newest first. $1 push $2 limit
select at, who, way, what, args, before, after, answer
from audit where push_no = $1
order by at desc, command_id
limit $2

-- name: whose
-- $1 app $2 user_id
select user_no, a.app_no from usr u join app a using (app_no) where a.name = $1 and u.user_id = $2

-- name: explain
-- Everything about one user in some pushes. Which rows are the user's comes first: a table that is being filled
-- has no statistics, and through its batches the planner would read the whole push. $1 user_no $2 push_nos
with own as materialized (
  select push_no, batch, seq from delivery where user_no = $1 and push_no = any ($2::bigint[])
)
select
  p.push_id, d.push_no, d.batch, d.seq, d.registration_no, d.lane, c.name as credential, c.provider,
  d.state, d.reason, n.name as reason_name, d.at, d.attempt, d.content_version, d.doubt, d.passed_on,
  r.status as registration_status, r.registered_at, r.retired_at, r.user_no is distinct from d.user_no as moved
from own
join delivery_now d using (push_no, batch, seq)
join push p using (push_no)
left join credential c on c.app_no = p.app_no and c.lane = d.lane
left join registration r on r.registration_no = d.registration_no
left join reason n on n.reason_no = d.reason
order by d.push_no, d.batch, d.seq

-- name: why_not
-- A user without a row: what can be the reason. $1 user_no $2 push
select
  exists (
    select from audience_range r
    where r.push_no = p.push_no and r.what = 0 and r.frozen_at is null and r.lo <= $1 and $1 < r.hi) as not_frozen,
  p.started_at is null as not_planned,
  u.created_at > p.started_at as came_later,
  coalesce(not slice_of(u.user_no, p.spec->'audience'->'slice'->>'of') <@ int4range(
    coalesce((p.spec->'audience'->'slice'->>'start')::int, 0),
    coalesce((p.spec->'audience'->'slice'->>'end')::int, 1000000)), false) as other_slice,
  not exists (
    select from registration r
    where r.user_no = $1 and r.kind = p.kind and r.status = 1) as no_registration,
  jsonb_array_length(coalesce(p.result->'lanes', '[]')) > 0
    and not exists (select from batch b where b.push_no = p.push_no) as past_retention
from push p, usr u
where p.push_no = $2 and u.user_no = $1

-- name: reconcile
-- Counters against rows, batch by batch, in one snapshot. bad_batches must be 0.
with rows as (
  select batch, state, count(*)::int as n from delivery_now where push_no = $1 group by 1, 2
), counters as (
  select batch, x.state, x.n
  from batch, unnest(
    array[0, 1, 2, 3, 4, 5, 6, 7, 8],
    array[open - retry, retry, accepted, rejected, suppressed, expired, cancelled, dead, in_doubt]) x (state, n)
  where push_no = $1 and x.n <> 0
), second as (
  select coalesce(sum(size), 0)::bigint as n from batch where push_no = $1 and fell_back
)
select
  coalesce(sum(rows.n), 0)::bigint - (select n from second) as audience,
  (select n from second) as fell_back,
  coalesce(sum(rows.n) filter (where state < 2), 0)::bigint as open,
  (count(distinct batch) filter (where rows.n is distinct from counters.n))::int as bad_batches
from rows full join counters using (batch, state)
