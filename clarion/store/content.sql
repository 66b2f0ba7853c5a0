-- name: store_message
insert into content (app_no, digest, message) values ($1, $2, $3) on conflict do nothing;

-- name: load_message
select message from content where app_no = $1 and digest = $2;

-- name: make_incoming
create temporary table incoming (user_id text not null) on commit drop;

-- name: sorted
select distinct user_id collate "C" as user_id from incoming order by 1;

-- name: store_list
insert into user_list (app_no, digest, size) values ($1, $2, $3) on conflict do nothing returning list_no;

-- name: fill_list
insert into user_list_member (list_no, user_id) select distinct $1::int, user_id from incoming;

-- name: list_size
select size from user_list where app_no = $1 and digest = $2;
