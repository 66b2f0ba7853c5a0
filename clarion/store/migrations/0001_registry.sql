-- The registry: apps, credentials, users, devices and their addresses at providers.
-- Numbers are identities and are never reused.

create table app (
  app_no int generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  lane_order smallint[] not null default '{}', -- which lane a phone with several addresses is reached through first
  created_at timestamptz not null default now()
);

-- A lane is the number of a credential in its app: APNs sandbox and production are two.
create table credential (
  app_no int not null references app,
  lane smallint not null,
  name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  provider text not null,
  environment text,
  topic text,
  endpoint text,
  settings jsonb not null default '{}', -- nothing secret: {"ca": PEM, "allow": ["127.0.0.1/32"], "public_key": …}
  ceiling real not null default 'Infinity' check (ceiling > 0), -- sends per second
  version int not null default 1, -- counts rotations
  secret bytea, -- sealed: AES-GCM under CLARION_KEY; null once it was withdrawn
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (app_no, lane),
  unique (app_no, name)
);

-- How a credential is doing; no row = open. Apart from the credential because senders write it.
create table credential_state (
  app_no int not null,
  lane smallint not null,
  blocked boolean not null,
  reason smallint not null default 0,
  version int not null default 1,
  since timestamptz not null default now(),
  primary key (app_no, lane)
) with (fillfactor = 50);

-- The one APNs or OAuth string that all processes share, sealed like the credential.
create table provider_token (
  app_no int not null,
  lane smallint not null,
  purpose text not null default '',
  credential_version int not null,
  token bytea,
  issued_at timestamptz,
  expires_at timestamptz,
  minter uuid, -- single flight: who fetches a new one …
  minting_until timestamptz, -- … holds this for seconds
  primary key (app_no, lane, purpose)
) with (fillfactor = 50);

create table locale (
  locale_no smallint generated always as identity primary key,
  tag text not null unique, -- lower case, hyphens: zh-hant-tw
  chain text[] not null default '{}' -- every range that it falls into: {zh-hant-tw, zh-hant, zh}
);
insert into locale (locale_no, tag) overriding system value values (0, '');

create table reason (
  reason_no smallint generated always as identity (start with 100) primary key, -- below 100: clarion.model.ledger.Reason
  name text not null unique -- "apns:Unregistered"
);

create table usr (
  user_no bigint generated always as identity primary key,
  app_no int not null, -- no foreign key: it would be asked once a row, and apps are never deleted
  user_id text not null check (length(user_id) between 1 and 256),
  locale smallint,
  zone text,
  optout int not null default 0, -- one bit a campaign kind
  tags text[],
  attributes jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (app_no, user_id)
) with (fillfactor = 90);

-- One installed app on one phone or browser.
create table device (
  device_no bigint generated always as identity primary key,
  app_no int not null,
  installation uuid not null,
  user_no bigint not null,
  platform smallint not null, -- 1 ios 2 android 3 web
  app_version text,
  version int[], -- the numbers of app_version without trailing zeros, so that 4.10 is later than 4.9.0
  model text,
  os_version text,
  locale smallint,
  zone text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_active timestamptz not null default now(),
  unique (app_no, installation)
) with (fillfactor = 85);
create index device_user on device (user_no);

-- A device's address at a provider.
create table registration (
  registration_no bigint generated always as identity primary key,
  device_no bigint not null,
  user_no bigint not null, -- repeated from device: the freeze reads users in order
  app_no int not null,
  lane smallint not null,
  kind smallint not null default 1, -- clarion.model.message.Kind
  status smallint not null default 1, -- 1 active 2 inactive 3 unregistered
  created_at timestamptz not null default now(),
  registered_at timestamptz not null default now(), -- when the app last said so: a provider's older word is void
  updated_at timestamptz not null default now(), -- when we last heard so; one moment for all of an import
  retired_at timestamptz, -- the last retirement, kept when it comes back
  retired_reason smallint,
  token text not null check (token !~ '[[:cntrl:]\\]'), -- Web Push: "endpoint p256dh auth"
  unique (device_no, lane, kind) deferrable -- looked at when a statement ends: two phones may swap addresses
) with (fillfactor = 85);
-- Tokens outgrow what a btree entry may hold, hence the hash.
create unique index registration_token on registration (app_no, lane, sha256(token::bytea));
create index registration_user on registration (user_no) where status = 1;

-- Content and user lists are stored before a start and travel by reference.
create table content (
  app_no int not null references app,
  digest bytea not null,
  message jsonb not null,
  created_at timestamptz not null default now(),
  primary key (app_no, digest)
);

create table user_list (
  list_no int generated always as identity primary key,
  app_no int not null references app,
  digest bytea not null,
  size int not null,
  created_at timestamptz not null default now(),
  unique (app_no, digest)
);

create table user_list_member (
  list_no int not null references user_list on delete cascade,
  user_id text not null,
  primary key (list_no, user_id)
);

create table worker (
  worker_no int generated always as identity primary key, -- "process" everywhere: never reused
  host text not null,
  pid int not null,
  queues text[] not null, -- what it serves now: none once it has left
  served text[] not null, -- what it served while it was there
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
) with (fillfactor = 50);

-- Register a set of addresses: everything about one address stands at the same place of each array.
--
-- Promises: every installation belongs to the last one who registered it, with all its addresses; a token
-- known under another installation moves and keeps its number; an address that comes back is active again;
-- one address per installation, lane and kind. The caller sends each (lane, token) and each (installation,
-- lane, kind) once, and repeats the call after a unique violation (a token racing to two installations).
--
-- A function, because each of its statements sees what the one before it waited for. Planned once for any
-- size, without statistics: everything goes through an index, because tables fill while it runs.
-- What is looked up stands in scalar sub-selects, which leave the planner no choice.
-- Locks are taken in the order usr, device, registration, and in the order of their keys within each.
create function register(
  app int, stamp timestamptz, -- stamp: one for a whole import; an address that bears it was in the file before
  user_ids text[], profiles jsonb[], -- {"tags": [...], "attributes": {...}} or null
  installations uuid[], fallbacks uuid[], -- fallback: for an unknown token without an installation
  platforms smallint[], lanes smallint[], kinds smallint[], tokens text[], hashes bytea[],
  app_versions text[], versions text[], models text[], os_versions text[], locales smallint[], zones text[],
  seen timestamptz[], -- when the app was there: null is now
  numbered boolean, -- whether the numbers are wanted
  out inserted int, out updated int, out duplicate int, out numbers bigint[]
) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
declare users bigint[]; devices bigint[]; moved bigint[]; mine bigint[]; known bigint[]; targets bigint[];
begin
  select array_agg((select u.user_no from usr u where u.app_no = app and u.user_id = id) order by n)
    into users from unnest(user_ids) with ordinality x(id, n);
  if array_position(users, null) is not null then
    insert into usr (app_no, user_id)
      select app, id from (select distinct id from unnest(users, user_ids) x(u, id) where u is null) x order by id
      on conflict do nothing;
    select array_agg(coalesce(u, (select v.user_no from usr v where v.app_no = app and v.user_id = id)) order by n)
      into users from unnest(users, user_ids) with ordinality x(u, id, n);
  end if;

  if array_position(profiles, null) is null or cardinality(array_remove(profiles, null)) > 0 then
    -- What a line says replaces what was known: the whole set of tags, and the attributes that it names.
    perform from (select distinct u from unnest(users, profiles) x(u, p) where p is not null) x
      join usr on user_no = u order by user_no for no key update of usr;
    update usr set updated_at = stamp,
      tags = case when p ? 'tags' then array(select jsonb_array_elements_text(p -> 'tags')) else tags end,
      attributes = case when p ? 'attributes'
        then jsonb_strip_nulls(coalesce(attributes, '{}') || (p -> 'attributes')) else attributes end
    from (select distinct on (u) u, p from unnest(users, profiles) with ordinality x(u, p, n)
      where p is not null order by u, n desc) x
    where user_no = u;
  end if;

  if array_position(installations, null) is not null then
    select array_agg(coalesce(i, (select d.installation from registration r join device d using (device_no)
        where r.app_no = app and r.lane = l and sha256(r.token::bytea) = h), f) order by n)
      into installations from unnest(installations, fallbacks, lanes, hashes) with ordinality x(i, f, l, h, n);
  end if;

  with d as (
    insert into device as d (app_no, installation, user_no, platform, app_version, version, model, os_version,
      locale, zone, created_at, updated_at, last_active)
    select distinct on (i) app, i, u, p, a, v::int[], m, o, l, z, stamp, stamp, coalesce(s, stamp)
    from unnest(installations, users, platforms, app_versions, versions, models, os_versions, locales, zones, seen)
      with ordinality x(i, u, p, a, v, m, o, l, z, s, n) order by i, n desc
    on conflict (app_no, installation) do update set user_no = excluded.user_no, platform = excluded.platform,
      app_version = coalesce(excluded.app_version, d.app_version),
      version = case when excluded.app_version is null then d.version else excluded.version end,
      model = coalesce(excluded.model, d.model), os_version = coalesce(excluded.os_version, d.os_version),
      locale = coalesce(excluded.locale, d.locale), zone = coalesce(excluded.zone, d.zone),
      updated_at = excluded.updated_at, last_active = greatest(excluded.last_active, d.last_active)
    returning device_no, old.user_no as was, new.user_no as owner
  )
  select array_agg(device_no) filter (where was <> owner) into moved from d;
  select array_agg((select d.device_no from device d where d.app_no = app and d.installation = i) order by n)
    into devices from unnest(installations) with ordinality x(i, n);

  for attempt in 1..2 loop
    select array_agg((select r.registration_no from registration r
          where r.device_no = d and r.lane = l and r.kind = k) order by n),
        array_agg((select r.registration_no from registration r
          where r.app_no = app and r.lane = l and sha256(r.token::bytea) = h) order by n)
      into mine, known from unnest(devices, lanes, kinds, hashes) with ordinality x(d, l, k, h, n);
    -- What is there already is locked and then looked at again: it may have changed while we waited.
    perform from registration where registration_no = any(mine || known) order by registration_no for update;
    exit when not found;
  end loop;

  -- A known token keeps its row; another address that stood in its place goes. A row whose token is replaced
  -- keeps its number, unless somebody else in this very set takes the old token with it.
  delete from registration where registration_no in (
    select m from unnest(mine, known) x(m, k) where m <> k and m not in (select k from unnest(known) k where k is not null));
  select array_agg(coalesce(k, case when m not in (select k from unnest(known) k where k is not null) then m end) order by n)
    into targets from unnest(mine, known) with ordinality x(m, k, n);

  duplicate := 0; updated := 0;
  if cardinality(array_remove(targets, null)) > 0 then
    with u as (
      update registration r set device_no = d, user_no = o, lane = l, kind = k, token = t, updated_at = stamp,
        -- An old line of a file is no new registration: it neither outdates a provider's word nor undoes it.
        registered_at = case when r.token = t then greatest(coalesce(s, stamp), r.registered_at) else coalesce(s, stamp) end,
        status = case when r.status = 3 and r.token = t and coalesce(s, stamp) <= r.retired_at then 3 else 1 end
      from unnest(targets, devices, users, lanes, kinds, tokens, seen) x(g, d, o, l, k, t, s)
      where r.registration_no = g
      returning old.updated_at = stamp as again
    )
    select count(*) filter (where again), count(*) filter (where not again) into duplicate, updated from u;
  end if;

  with i as (
    insert into registration (device_no, user_no, app_no, lane, kind, token, created_at, registered_at, updated_at)
    select d, o, app, l, k, t, stamp, coalesce(s, stamp), stamp
    from unnest(targets, devices, users, lanes, kinds, tokens, seen) x(g, d, o, l, k, t, s) where g is null
    returning 1
  )
  select count(*) into inserted from i;
  if moved is not null then
    update registration r set user_no = d.user_no
      from device d where d.device_no = any(moved) and r.device_no = d.device_no and r.user_no <> d.user_no;
  end if;
  if numbered then
    select array_agg((select r.registration_no from registration r
        where r.device_no = d and r.lane = l and r.kind = k) order by n)
      into numbers from unnest(devices, lanes, kinds) with ordinality x(d, l, k, n);
  end if;
end $$;
