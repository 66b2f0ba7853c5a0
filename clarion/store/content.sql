-- name: store_message
-- Stored again it is as young as a new one: housekeeping leaves it for whoever is about to name it.
insert into content (app_no, digest, message) values ($1, $2, $3)
on conflict (app_no, digest) do update set created_at = now();

-- name: load_message
-- It is named by a word: that keeps it, too. The row is written at most once a day.
with used as (
  update content set created_at = now()
  where app_no = $1 and digest = $2 and created_at < now() - interval '1 day'
)
select message from content where app_no = $1 and digest = $2;

-- name: make_incoming
create temporary table incoming (user_id text not null) on commit drop;

-- name: sorted
select distinct user_id collate "C" as user_id from incoming order by 1;

-- name: store_list
-- The number of a list that is new and has to be filled; null: it is there, and as young as a new one.
insert into user_list (app_no, digest, size) values ($1, $2, $3)
on conflict (app_no, digest) do update set created_at = now()
returning case when old.list_no is null then new.list_no end;

-- name: fill_list
insert into user_list_member (list_no, user_id) select distinct $1::int, user_id from incoming;

-- name: list_size
select size from user_list where app_no = $1 and digest = $2;
