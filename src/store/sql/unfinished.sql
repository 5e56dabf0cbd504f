-- unfinished: is anything left that one transaction did not bring to its end; primary keys of departures and marks_behind, from their beginnings
select exists (select from departures d where d.user_id >= 0) as "departures!",
       exists (select from marks_behind b where b.chat_id >= '00000000-0000-0000-0000-000000000000') as "marks!"
