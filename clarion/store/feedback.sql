-- What providers tell of registrations that have ended.

-- name: to_ask
-- Credentials of these providers that are in use. $1 providers
select c.app_no, c.lane, c.provider
from credential c
where c.provider = any ($1::text[]) and c.secret is not null
  and not exists (
    select from credential_state s where s.app_no = c.app_no and s.lane = c.lane and s.blocked)
order by 1, 2

-- name: retire
-- End these addresses, for that reason. One that has registered in the last $5 lives: whether the provider's
-- word is older or newer nobody knows, and a message would tell. $1 app $2 lane $3 tokens $4 reason
with ended as (
  update registration r set status = 3, retired_at = now(), retired_reason = $4, updated_at = now()
  from unnest($3::text[]) t (token)
  where r.app_no = $1 and r.lane = $2 and sha256(r.token::bytea) = sha256(t.token::bytea) and r.token = t.token
    and r.status = 1 and r.registered_at <= now() - $5::interval
  returning 1
)
select count(*) from ended
