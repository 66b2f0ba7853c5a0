-- What metrics are made of where the ledger alone knows it.

-- name: close_push
-- Close the push; `now`: by this statement, not before. Both null: something is still open. $1 push
select x.result, (x.result->>'closed_at')::timestamptz = now() as now
from (select close_push($1) as result) x

-- name: unanswered
-- Rows of a closed push that have no answer, by provider and state. $1 push
select p.priority, c.provider, u.state, sum(u.n)::bigint as n
from push p
join push_counts t using (push_no)
join credential c on c.app_no = p.app_no and c.lane = t.lane
cross join lateral (values
  ('suppressed', t.suppressed), ('expired', t.expired), ('cancelled', t.cancelled),
  ('dead', t.dead), ('in_doubt', t.in_doubt)) u (state, n)
where p.push_no = $1 and u.n > 0
group by 1, 2, 3

-- name: pending
-- Rows that have no final state yet, by priority, of every open push.
select p.priority, coalesce(sum(case b.closed when 0 then b.open else 0 end), 0)::bigint as n
from push p
join batch b using (push_no)
where p.closed_at is null
group by 1
