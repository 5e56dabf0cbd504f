-- statistics_as_of: all that was committed before as_of is in the figures of later statements; journal_by_time
select least(statement_timestamp(), (select j.at from statistics_journal j where j.at > '-infinity' order by j.at limit 1)) as "as_of!", clock_timestamp() as "now!"
