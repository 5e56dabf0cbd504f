-- make_feed: makes a feed with its streams and publishers, or finds that it is there; primary keys (see restante_new_feed)
select restante_new_feed($1, $2, $3, $4, $5) as "outcome!"
