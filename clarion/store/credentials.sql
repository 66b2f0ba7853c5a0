-- name: lock_app
-- Lanes are numbered under this lock, by a statement of their own: one that waited would not see what was
-- added meanwhile.
select true from app where app_no = $1 for no key update;

-- name: next_lane
select coalesce(max(lane), 0) + 1 from credential where app_no = $1;

-- name: add
insert into credential (app_no, lane, name, provider, environment, topic, endpoint, settings, ceiling, secret)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: order_lane
-- In front of lane $3; without one, at the end.
update app set lane_order = case when $3::smallint is null then lane_order || $2::smallint
  else lane_order[:array_position(lane_order, $3) - 1] || $2::smallint || lane_order[array_position(lane_order, $3):] end
where app_no = $1;

-- name: list
select c.app_no, a.name as app, c.lane, c.name, c.provider, c.environment, c.topic, c.endpoint, c.settings,
  c.ceiling, c.version, c.secret is null as withdrawn, coalesce(s.blocked, false) as blocked,
  case when s.blocked then s.reason else 0 end as reason, s.since, c.created_at, c.updated_at
from credential c join app a using (app_no) left join credential_state s using (app_no, lane)
where $1::int is null or c.app_no = $1 order by c.app_no, c.lane;

-- name: load
select app_no, lane, name, provider, environment, topic, endpoint, settings, ceiling, version, secret
from credential where app_no = $1 and lane = $2;

-- name: load_all
select app_no, lane, name, provider, environment, topic, endpoint, settings, ceiling, version, secret
from credential where provider = $1 and secret is not null order by app_no, lane;

-- name: versions
select app_no, lane, version from credential;

-- name: rotate
-- Only over the version that was looked at.
update credential set secret = $3, version = version + 1, updated_at = now()
where app_no = $1 and lane = $2 and version = $4 returning version;

-- name: move
update credential set endpoint = $3, settings = settings || $4::jsonb, version = version + 1, updated_at = now()
where app_no = $1 and lane = $2 and secret is not null
  and (endpoint, settings) is distinct from ($3, settings || $4::jsonb)
returning version;

-- name: withdraw
with c as (
  update credential set secret = null, version = version + 1, updated_at = now() where app_no = $1 and lane = $2
), s as (
  insert into credential_state (app_no, lane, blocked, reason) values ($1, $2, true, $3)
  on conflict (app_no, lane) do update set blocked = true, reason = excluded.reason,
    version = credential_state.version + 1, since = now()
), k as (
  delete from provider_token where app_no = $1 and lane = $2
), r as (
  update registration set status = 2, retired_at = now(), retired_reason = $3, updated_at = now()
  where app_no = $1 and lane = $2 and status = 1 returning 1
)
select count(*) from r;

-- name: unblock
-- $1 app $2 lane $3 who $4 way. No row: it was open, or has no secret to send with
with opened as (
  update credential_state s set blocked = false, reason = 0, version = s.version + 1, since = now()
  from credential c
  where s.app_no = $1 and s.lane = $2 and s.blocked and c.app_no = $1 and c.lane = $2 and c.secret is not null
  returning s.lane, s.version, old.reason
), said as (
  insert into audit (command_id, who, way, what, args, answer)
  select
    gen_random_uuid(), $3, $4, 'unblock',
    jsonb_build_object('app_no', $1::int, 'lane', lane, 'reason', reason),
    jsonb_build_object('ok', true, 'version', version)
  from opened
)
select lane from opened;

-- name: sealed
select app_no, lane, secret from credential where secret is not null;

-- name: reseal
update credential set secret = $4 where app_no = $1 and lane = $2 and secret = $3;
