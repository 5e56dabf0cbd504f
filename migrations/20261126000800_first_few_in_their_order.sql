-- The first that waits above a mark is looked for in the order of numbers, so that it is found at once. Where the planner
-- expects few to match, it would rather fetch all messages above the mark (a bitmap), look each up, and sort: with thousands
-- that wait each batch of acks looked at all of them. From now on the functions leave it no such way either.
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p where p.pronamespace = current_schema()::regnamespace and 'enable_seqscan=off' = any (p.proconfig)
  loop
    execute format('alter function %s set enable_bitmapscan = off', f);
  end loop;
end $$;
