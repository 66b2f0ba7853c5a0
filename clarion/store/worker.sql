-- name: register
insert into worker (host, pid, queues, served) values ($1, $2, $3, $3) returning worker_no;

-- name: seen
update worker set seen_at = now() where worker_no = $1;

-- name: leave
update worker set queues = '{}', seen_at = now() where worker_no = $1;

-- name: list
select worker_no, host, pid, served as queues, started_at, seen_at, alive
from (select *, queues <> '{}' and seen_at > now() - make_interval(secs => $1::float8) as alive from worker) w
where alive or $2 order by worker_no desc;

-- name: no_sender_since
-- A process that left in good order serves nothing, however lately it was seen.
select case when count(*) filter (where $1 = any(queues) and seen_at > now() - make_interval(secs => $2::float8)) = 0
  then coalesce(max(seen_at), 'epoch') end
from worker where $1 = any(served);
