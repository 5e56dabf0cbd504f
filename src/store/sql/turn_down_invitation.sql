-- turn_down_invitation: a user declines an invitation; primary keys of users and invitations
select restante_turn_down_invitation($1, $2) as "outcome!"
