-- name: register
select inserted, updated, duplicate, numbers
from register($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21);

-- name: take_in
select inserted, updated, duplicate, rest
from take_in($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20);

-- name: seen
with d as (
  update device set last_active = now(), updated_at = now() where app_no = $1 and installation = $2
  returning device_no
), r as (
  update registration r set status = 1, updated_at = now()
  from d where r.device_no = d.device_no and r.status = 2 and r.retired_reason = $3
)
select device_no from d;

-- name: set_badge
-- $1 registrations $2 the number
insert into badge (device_no, number)
select distinct device_no, $2::smallint from registration where registration_no = any ($1::bigint[])
on conflict (device_no) do update set number = excluded.number;

-- name: unregister
with d as (
  select device_no from device where app_no = $1 and installation = $2
), r as (
  update registration r set status = 2, updated_at = now(), retired_at = now(), retired_reason = 0
  from d where r.device_no = d.device_no and r.status = 1 returning 1
)
select count(*) from r;

-- name: of_user
select r.registration_no, u.user_id, d.installation::text as installation, d.platform, c.name as lane, c.provider,
  r.kind, r.status, left(encode(sha256(r.token::bytea), 'hex'), 8) as fingerprint, d.app_version, d.model, d.os_version,
  d.manufacturer, d.google_services,
  coalesce(d.locale, u.locale, 0) as locale, coalesce(d.zone, u.zone) as zone,
  r.created_at, r.registered_at, r.updated_at, d.last_active, r.retired_at, coalesce(r.retired_reason, 0) as retired_reason
from usr u join device d on d.user_no = u.user_no join registration r using (device_no)
  join credential c on c.app_no = r.app_no and c.lane = r.lane
where u.app_no = $1 and u.user_id = $2 and ($4::smallint is null or d.platform = $4) and (r.status = 1 or not $5)
order by r.registration_no limit $3;

-- name: of_app
select r.registration_no, u.user_id, d.installation::text as installation, d.platform, c.name as lane, c.provider,
  r.kind, r.status, left(encode(sha256(r.token::bytea), 'hex'), 8) as fingerprint, d.app_version, d.model, d.os_version,
  d.manufacturer, d.google_services,
  coalesce(d.locale, u.locale, 0) as locale, coalesce(d.zone, u.zone) as zone,
  r.created_at, r.registered_at, r.updated_at, d.last_active, r.retired_at, coalesce(r.retired_reason, 0) as retired_reason
from registration r join device d using (device_no) join usr u on u.user_no = r.user_no
  join credential c on c.app_no = r.app_no and c.lane = r.lane
where r.app_no = $1 and r.registration_no > $2 and ($4::smallint is null or d.platform = $4) and (r.status = 1 or not $5)
order by r.registration_no limit $3;

-- name: count
select status, count(*) as n from registration where app_no = $1 group by status order by status;

-- name: end_unseen
with d as materialized (
  select device_no, last_active from device where device_no > $3 and app_no = $1 order by device_no limit $4
), r as (
  update registration r set status = 2, updated_at = now(), retired_at = now(), retired_reason = $5
  from d where d.last_active < now() - make_interval(days => $2) and r.device_no = d.device_no and r.status = 1
  returning 1
)
select (select count(*) from r) as ended, (select count(*) from d) as looked, (select max(device_no) from d) as last;
