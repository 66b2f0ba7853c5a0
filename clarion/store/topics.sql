-- FCM topics: whom a name means, and what was said.

-- name: registrations
-- Active registrations of users on a lane. $1 app_no $2 user ids $3 lane
select u.user_id, r.registration_no, r.token
from unnest($2::text[]) with ordinality x (id, n)
join usr u on u.app_no = $1 and u.user_id = x.id
join registration r on r.user_no = u.user_no and r.lane = $3 and r.status = 1
order by x.n, r.registration_no

-- name: retire
-- Dead since $2, for reason $3: one that registered again meanwhile lives. $1 registrations
update registration set status = 3, retired_at = $2, retired_reason = $3, updated_at = now()
where registration_no = any ($1::bigint[]) and status = 1 and registered_at <= $2
returning registration_no

-- name: said
select args, answer from audit where command_id = $1

-- name: note
-- $1 command id $2 who $3 what $4 args $5 answer
insert into audit (command_id, who, way, what, args, answer) values ($1, $2, 'topic', $3, $4, $5)
on conflict (command_id) do nothing
