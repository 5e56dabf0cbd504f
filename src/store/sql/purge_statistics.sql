-- purge_statistics: removes figures that are old; figures_of_an_hour_stand_once, event_statistics_by_expiry (see restante_purge_statistics)
select restante_purge_statistics($1, $2) as "rows!"
