-- name: look
-- A token of a later version than ours is taken as it is: we are the ones who are behind.
select token as sealed, extract(epoch from issued_at)::float8 as issued, extract(epoch from expires_at)::float8 as expires,
  credential_version >= $4 and expires_at > now() as usable,
  credential_version >= $4 and expires_at > now() and issued_at > now() - make_interval(secs => $5::float8) as fresh,
  extract(epoch from expires_at - now())::float8 as left
from provider_token where app_no = $1 and lane = $2 and purpose = $3;

-- name: claim
-- The right to mint, if nobody holds it and the token ($6) is still the one that was looked at.
insert into provider_token as t (app_no, lane, purpose, credential_version, minter, minting_until)
values ($1, $2, $3, 0, $4, now() + make_interval(secs => $5::float8))
on conflict (app_no, lane, purpose) do update set minter = excluded.minter, minting_until = excluded.minting_until
where (t.minting_until is null or t.minting_until < clock_timestamp()) and t.token is not distinct from $6::bytea
returning 1;

-- name: store
update provider_token set token = $6, credential_version = $5, issued_at = now(),
  expires_at = now() + make_interval(secs => $7::float8), minter = null, minting_until = null
where app_no = $1 and lane = $2 and purpose = $3 and minter = $4
returning extract(epoch from issued_at)::float8 as issued;

-- name: give_up
update provider_token set minter = null, minting_until = null
where app_no = $1 and lane = $2 and purpose = $3 and minter = $4;
