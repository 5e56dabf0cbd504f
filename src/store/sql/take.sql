-- take: makes rows of what is new in the feeds that a user follows; primary keys of followers, chat_heads and messages by stream (see restante_take)
select numbers as "numbers!", more as "more!", superseded as "superseded!" from restante_take($1, $2, $3, $4)
