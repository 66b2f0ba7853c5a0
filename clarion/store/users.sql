-- name: put
insert into usr as u (app_no, user_id, locale, zone, tags, attributes)
values ($1, $2, nullif($3::smallint, 0), nullif($4::text, ''), $5::text[], jsonb_strip_nulls($6::jsonb))
on conflict (app_no, user_id) do update set updated_at = now(),
  locale = case when $3 is null then u.locale else nullif($3, 0) end,
  zone = case when $4 is null then u.zone else nullif($4, '') end,
  tags = coalesce($5, u.tags),
  attributes = case when $6 is null then u.attributes else jsonb_strip_nulls(coalesce(u.attributes, '{}') || $6) end
returning user_no;

-- name: one
select user_no, user_id, coalesce(locale, 0) as locale, zone, optout, coalesce(tags, '{}') as tags,
  coalesce(attributes, '{}') as attributes
from usr where app_no = $1 and user_id = $2;

-- name: set_optout
insert into usr (app_no, user_id, optout) values ($1, $2, $3)
on conflict (app_no, user_id) do update set optout = excluded.optout, updated_at = now()
returning user_no;

-- name: forget
with u as (
  delete from usr where app_no = $1 and user_id = $2 returning user_no
), d as (
  delete from device where user_no in (select user_no from u) returning device_no
), b as (
  delete from badge where device_no in (select device_no from d)
), r as (
  delete from registration where device_no in (select device_no from d)
)
select user_no from u;
