-- begin_tokens: a node that starts says how long a token may live, in seconds; primary key of token_settings
insert into token_settings as s (only_row, lifetime_max)
values (true, make_interval(secs => $1))
on conflict on constraint there_is_one_row_of_token_settings do update
  set lifetime_max = excluded.lifetime_max
  where s.lifetime_max <> excluded.lifetime_max
