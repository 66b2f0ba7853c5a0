-- name: count_users
select count(*) from usr u join registration r on r.user_no = u.user_no and r.status = 1
where u.app_no = $1 and u.user_id = any($2::text[]);

-- name: list_size
-- It is named by a push: that keeps it.
update user_list set created_at = now() where app_no = $1 and digest = $2 returning size;

-- name: guess_all
explain (format json) select from registration r where r.app_no = $1 and r.status = 1;

-- name: guess
-- The condition takes the place of the word true.
explain (format json) select from registration r join usr u on u.user_no = r.user_no join device d on d.device_no = r.device_no
where r.app_no = $1 and r.status = 1 and true;
