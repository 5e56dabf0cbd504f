-- set_publishers: adds publishers to a feed and removes others; primary keys of feeds and feed_publishers (see restante_set_publishers)
select restante_set_publishers($1, $2, $3, $4, $5, $6) as "outcome!"
