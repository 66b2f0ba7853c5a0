-- What runs: pushes as their workflows, the admission of batches and the watch see them.

-- name: known
-- A push by its id, for a workflow that was started again without its spec.
select push_no, hold, result, case when closed_at is null then 'open' else 'closed' end as opened
from push where push_id = $1

-- name: standing
-- What people are shown beside NEXT_WORK: pace, counts by lane, why a lane is blocked. $1 push
select nullif(p.pace, 'Infinity') as pace, coalesce(r.name, s.reason::text) as blocked_reason, c.*
from push p
left join push_counts c on c.push_no = p.push_no
left join credential_state s on s.app_no = p.app_no and s.lane = c.lane and s.blocked
left join reason r on r.reason_no = s.reason
where p.push_no = $1
order by c.lane

-- name: admission
-- May an attempt at this batch begin? wait: seconds until its wave or its retries; closed: until the lane is
-- open again after a Retry-After, as the dealer knows it. $1 push $2 batch
select
  case
    when b.closed > 0 or p.hold = 3 then 'closed'
    when p.hold = 2 or p.hold = 1 and not b.begun then 'held'
    when p.deadline <= now() then 'deadline'
    when s.blocked then 'blocked'
    when b.lease_until > now() then 'leased'
  end as why,
  greatest(extract(epoch from greatest(b.opens_at, case when b.open = b.retry then b.due_at end) - now()), 0)::float8
    as wait,
  greatest(coalesce((
    select (d.lanes->(p.app_no || '.' || b.lane)->>'closed')::float8 - clock()
    from dealer d where d.dealt_at > clock() - 5), 0), 0)::float8 as shut
from push p
join batch b on b.push_no = p.push_no and b.batch = $2
left join credential_state s on s.app_no = p.app_no and s.lane = b.lane
where p.push_no = $1

-- name: open_pushes
-- Pushes that should have a running workflow. $1 seconds of grace for one that was opened just now
select push_no, push_id, hold
from push
where closed_at is null and created_at < now() - make_interval(secs => $1)
order by push_no

-- name: frequent_reason
-- Which of the reasons $3 rejected most rows of a lane. $1 push $2 lane
select d.reason
from batch b join delivery d using (push_no, batch)
where b.push_no = $1 and b.lane = $2 and d.state = 3 and d.reason = any ($3::smallint[])
group by 1 order by count(*) desc limit 1

-- name: make_days
-- The partitions of the days from yesterday to $1 days ahead.
select bool_and(make_day(day::date))
from generate_series((now() at time zone 'UTC')::date - 1, (now() at time zone 'UTC')::date + $1::int, '1 day') day

-- name: unfinished_retirements
-- Pushes with entries in the retire queue, closed ones too: a late answer brings some.
select distinct push_no from retire order by 1 limit $1
