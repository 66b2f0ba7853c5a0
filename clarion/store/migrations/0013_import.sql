-- Take in a piece of a file: the plain cases of `register`, many times as fast.
--
-- Plain is an address that is wholly new (nobody knows its token, nobody its installation), and one that is
-- wholly known (the token where the line says that it is, and the phone with the user whom the line names).
-- Everything else is left: the places of those lines come back, and the caller gives them to `register`.
-- Lines that share an installation with one that is left are left with it, so that their order counts.
--
-- Takes what `register` takes, under the same conditions. It trusts what it has seen: where somebody else
-- was faster it raises (a unique violation, or 40001) with nothing done, and the caller repeats the call.
-- Planned like `register`, and locks in its order: usr, device, registration, within each by their keys.
create function take_in(
  app int, stamp timestamptz, user_ids text[], profiles jsonb[], installations uuid[], fallbacks uuid[],
  platforms smallint[], lanes smallint[], kinds smallint[], tokens text[], hashes bytea[],
  app_versions text[], versions text[], models text[], os_versions text[], locales smallint[], zones text[],
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
        updated_at = stamp, last_active = greatest(coalesce(s, stamp), d.last_active)
      from (select distinct on (e) g, u, p, a, v, m, o, lc, z, s
        from unnest(cases, places, devices, users, platforms, app_versions, versions, models, os_versions, locales, zones, seen)
          with ordinality x(c, e, g, u, p, a, v, m, o, lc, z, s, n)
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
      from unnest(cases, places, users, platforms, lanes, kinds, tokens, app_versions, versions, models, os_versions, locales, zones, seen)
        with ordinality x(c, e, u, p, l, k, t, a, v, m, o, lc, z, s, n)
      where c = 2
    ), d as (
      insert into device (device_no, app_no, installation, user_no, platform, app_version, version, model,
        os_version, locale, zone, created_at, updated_at, last_active) overriding system value
      select distinct on (rank) numbers[rank], app, e, u, p, a, v::int[], m, o, lc, z, stamp, stamp, coalesce(s, stamp)
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
