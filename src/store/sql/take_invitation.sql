-- take_invitation: a user accepts an invitation and joins the group, under its row lock; primary keys (see restante_take_invitation)
select outcome as "outcome!", title as "title?", joined_seq as "joined_seq?", inviter as "inviter?" from restante_take_invitation($1, $2, $3)
