-- A closed push tried again: the new push is opened, and the audit written, in one transaction.

-- name: closed
-- The push to retry, locked: of two that retry it at once the second sees the first. $1 push
select
  p.push_no, p.push_id, p.app_no, a.name as app, p.campaign_id, p.closed_at, p.verdict, p.dedup_no,
  nullif(p.pace, 'Infinity') as pace, p.spec, now() as now,
  coalesce((select root.push_id from push root where root.push_no = p.dedup_no), p.push_id) as root,
  (
    select message from push_content c
    where c.push_no = p.push_no and c.version = p.content_version) as message
from push p join app a using (app_no)
where p.push_no = $1
for no key update of p

-- name: answered
-- What this command was answered. $1 command id
select answer from audit where command_id = $1

-- name: retries
-- Who has retried the push, and what they took. $1 push $2 its dedup_no
select push_id, closed_at, verdict, spec->'audience'->'retry' as took
from push where dedup_no = $2 and retry_of = $1
order by push_no

-- name: chain
-- How many retries there are of a push, its retries and so on. $1 dedup_no
select count(*) from push where dedup_no = $1 and retry_of is not null

-- name: count
-- Final rows of a closed push. $1 push $2 states $3 reasons (null: any)
select count(*) from delivery_now
where push_no = $1 and state = any ($2::smallint[]) and ($3::smallint[] is null or reason = any ($3))
  and not passed_on

-- name: ended
-- How the rows of a push ended that a retry could take, most frequent first. $1 push $2 states
select d.state, d.reason, n.name, count(*) as rows
from delivery_now d left join reason n on n.reason_no = d.reason
where d.push_no = $1 and d.state = any ($2::smallint[]) and not d.passed_on
group by 1, 2, 3 order by 4 desc limit 8

-- name: open
-- The new push, as the old one was. No row: the id is taken. $1 push_id $2 spec $3 spec hash $4 the old push
-- $5 pace $6 deadline $7 message
with place as materialized (
  select make_day((now() at time zone 'UTC')::date) as made
), opened as (
  insert into push (
    push_no, push_id, spec, spec_hash, app_no, campaign_id, retry_of, dedup_no,
    priority, kind, mask, guarantee, weight, pace, deadline, send_at)
  select
    (extract(epoch from now())::bigint << 20) + nextval('push_n'), $1, $2, $3, app_no, campaign_id, push_no,
    dedup_no, priority, kind, mask, guarantee, weight, coalesce($5::real, 'Infinity'),
    coalesce($6::timestamptz, 'infinity'), now()
  from push, place where push_no = $4 and made
  on conflict (push_id) do nothing
  returning push_no
), content as (
  insert into push_content (push_no, version, message) select push_no, 1, $7::jsonb from opened
)
select push_no from opened

-- name: audit
-- $1 command id $2 the old push $3 who $4 way $5 args $6 after $7 answer
insert into audit (command_id, push_no, who, way, what, args, before, after, answer)
values ($1, $2, $3, $4, 'retry', $5, '{}', $6, $7)

-- name: of_campaign
-- The pushes of a campaign, and their retries, oldest first. $1 campaign
select push_no, push_id from push where campaign_id = $1 order by push_no

-- name: spec
select spec, closed_at, verdict from push where push_id = $1
