-- What a phone says of itself that decides by which of its addresses it is reached.
alter table device
  add column google_services boolean, -- null: it has not said
  add column manufacturer text; -- in lower case

-- `register` and `take_in` with two fields more. Those without them stay for processes of the release before.
create function register(
  app int, stamp timestamptz, -- stamp: one for a whole import; an address that bears it was in the file before
  user_ids text[], profiles jsonb[], -- {"tags": [...], "attributes": {...}} or null
  installations uuid[], fallbacks uuid[], -- fallback: for an unknown token without an installation
  platforms smallint[], lanes smallint[], kinds smallint[], tokens text[], hashes bytea[],
  app_versions text[], versions text[], models text[], os_versions text[], locales smallint[], zones text[],
  services boolean[], makers text[], -- whether there are Google services, and the phone's manufacturer, in lower case
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
      locale, zone, google_services, manufacturer, created_at, updated_at, last_active)
    select distinct on (i) app, i, u, p, a, v::int[], m, o, l, z, g, k, stamp, stamp, coalesce(s, stamp)
    from unnest(installations, users, platforms, app_versions, versions, models, os_versions, locales, zones,
      services, makers, seen) with ordinality x(i, u, p, a, v, m, o, l, z, g, k, s, n) order by i, n desc
    on conflict (app_no, installation) do update set user_no = excluded.user_no, platform = excluded.platform,
      app_version = coalesce(excluded.app_version, d.app_version),
      version = case when excluded.app_version is null then d.version else excluded.version end,
      model = coalesce(excluded.model, d.model), os_version = coalesce(excluded.os_version, d.os_version),
      locale = coalesce(excluded.locale, d.locale), zone = coalesce(excluded.zone, d.zone),
      google_services = coalesce(excluded.google_services, d.google_services),
      manufacturer = coalesce(excluded.manufacturer, d.manufacturer),
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

create function take_in(
  app int, stamp timestamptz, user_ids text[], profiles jsonb[], installations uuid[], fallbacks uuid[],
  platforms smallint[], lanes smallint[], kinds smallint[], tokens text[], hashes bytea[],
  app_versions text[], versions text[], models text[], os_versions text[], locales smallint[], zones text[],
  services boolean[], makers text[],
  seen timestamptz[],
  out inserted int, out updated int, out duplicate int, out rest int[]
) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  users bigint[]; places uuid[]; devices bigint[]; targets bigint[]; cases smallint[]; -- 0 left 1 known 2 new
  numbers bigint[]; phones int; written int;
begin
  select array_agg((select u.user_no from usr u where u.app_no = app and u.user_id = id) order by n)
    into users from unnest(user_ids) with ordinality x(id, n);
  if array_position(profiles, null) is null or cardinality(array_remove(profiles, null)) > 0 then
    perform from (select distinct u from unnest(users, profiles) x(u, p) where u is not null and p is not null) x
      join usr on user_no = u order by user_no for no key update of usr;
    update usr set updated_at = stamp,
      tags = case when p ? 'tags' then array(select jsonb_array_elements_text(p -> 'tags')) else tags end,
      attributes = case when p ? 'attributes'
        then jsonb_strip_nulls(coalesce(attributes, '{}') || (p -> 'attributes')) else attributes end
    from (select distinct on (u) u, p from unnest(users, profiles) with ordinality x(u, p, n)
      where u is not null and p is not null order by u, n desc) x
    where user_no = u;
  end if;
  if array_position(users, null) is not null then
    insert into usr (app_no, user_id, tags, attributes)
      select app, id, case when p ? 'tags' then array(select jsonb_array_elements_text(p -> 'tags')) end,
        case when p ? 'attributes' then jsonb_strip_nulls(p -> 'attributes') end
      from (select distinct on (id collate "C") id, p from unnest(users, user_ids, profiles) with ordinality x(u, id, p, n)
        where u is null order by id collate "C", p is null, n desc) x;
    select array_agg(coalesce(u, (select v.user_no from usr v where v.app_no = app and v.user_id = id)) order by n)
      into users from unnest(users, user_ids) with ordinality x(u, id, n);
  end if;

  select array_agg(r[1] order by n), array_agg(r[2] order by n), array_agg(coalesce(i, at, f) order by n),
      array_agg((case
        when r is not null then (r[3] = u and owner = u and r[4] = k and (i is null or i = at))::int
        when exists (select from device d where d.app_no = app and d.installation = coalesce(i, f)) then 0
        else 2 end)::smallint order by n)
    into targets, devices, places, cases
    from (select x.*, (select d.user_no from device d where d.device_no = r[2]) as owner,
        (select d.installation from device d where d.device_no = r[2]) as at
      from (select x.*, (
          select array[r.registration_no, r.device_no, r.user_no, r.kind] from registration r
          where r.app_no = app and r.lane = l and sha256(r.token::bytea) = h) as r
        from unnest(users, installations, fallbacks, lanes, kinds, hashes) with ordinality x(u, i, f, l, k, h, n)
        offset 0) x
      offset 0) x;
  if array_position(cases, 0::smallint) is not null then
    select array_agg(case when e in (select e from unnest(places, cases) x(e, c) where c = 0) then 0::smallint else c end
        order by n), array_agg(n::int order by n) filter (where e in (select e from unnest(places, cases) x(e, c) where c = 0))
      into cases, rest from unnest(places, cases) with ordinality x(e, c, n);
  end if;

  duplicate := 0; updated := 0; inserted := 0;
  if array_position(cases, 1::smallint) is not null then
    with d as (
      update device d set platform = p, app_version = coalesce(a, d.app_version),
        version = case when a is null then d.version else v::int[] end,
        model = coalesce(m, d.model), os_version = coalesce(o, d.os_version),
        locale = coalesce(lc, d.locale), zone = coalesce(z, d.zone),
        google_services = coalesce(gs, d.google_services), manufacturer = coalesce(mk, d.manufacturer),
        updated_at = stamp, last_active = greatest(coalesce(s, stamp), d.last_active)
      from (select distinct on (e) g, u, p, a, v, m, o, lc, z, gs, mk, s
        from unnest(cases, places, devices, users, platforms, app_versions, versions, models, os_versions, locales, zones,
            services, makers, seen)
          with ordinality x(c, e, g, u, p, a, v, m, o, lc, z, gs, mk, s, n)
        where c = 1 order by e, n desc) x
      where d.device_no = g and d.user_no = u
      returning 1
    )
    select count(*) into written from d;
    select count(distinct e) into phones from unnest(cases, places) x(c, e) where c = 1;
    if written <> phones then
      raise serialization_failure using message = 'a phone has changed meanwhile';
    end if;
    with r as (
      update registration r set updated_at = stamp, registered_at = greatest(coalesce(s, stamp), r.registered_at),
        status = case when r.status = 3 and coalesce(s, stamp) <= r.retired_at then 3 else 1 end
      from (select g, d, u, k, t, s from unnest(cases, targets, devices, users, kinds, tokens, seen) x(c, g, d, u, k, t, s)
        where c = 1 order by g) x
      where r.registration_no = g and r.device_no = d and r.user_no = u and r.kind = k and r.token = t
      returning old.updated_at = stamp as again
    )
    select count(*) filter (where again), count(*) filter (where not again) into duplicate, updated from r;
    if duplicate + updated <> cardinality(array_positions(cases, 1::smallint)) then
      raise serialization_failure using message = 'an address has changed meanwhile';
    end if;
  end if;

  if array_position(cases, 2::smallint) is not null then
    select count(distinct e) into phones from unnest(cases, places) x(c, e) where c = 2;
    numbers := array(select nextval('device_device_no_seq') from generate_series(1, phones));
    with new as materialized (
      select x.*, dense_rank() over (order by e) as rank
      from unnest(cases, places, users, platforms, lanes, kinds, tokens, app_versions, versions, models, os_versions, locales,
          zones, services, makers, seen)
        with ordinality x(c, e, u, p, l, k, t, a, v, m, o, lc, z, gs, mk, s, n)
      where c = 2
    ), d as (
      insert into device (device_no, app_no, installation, user_no, platform, app_version, version, model,
        os_version, locale, zone, google_services, manufacturer, created_at, updated_at, last_active)
        overriding system value
      select distinct on (rank)
        numbers[rank], app, e, u, p, a, v::int[], m, o, lc, z, gs, mk, stamp, stamp, coalesce(s, stamp)
      from new order by rank, n desc
      returning 1
    ), r as (
      insert into registration (device_no, user_no, app_no, lane, kind, token, created_at, registered_at, updated_at)
      select numbers[rank], u, app, l, k, t, stamp, coalesce(s, stamp), stamp
      from (select count(*) from d) phones_first, new
      returning 1
    )
    select count(*) into inserted from r;
  end if;
end $$;
