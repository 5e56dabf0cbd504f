-- put_preferences: sets what a user has muted; primary keys of preferences and chat_members (see restante_put_preferences)
select restante_put_preferences($1, $2, $3) as "outcome!"
