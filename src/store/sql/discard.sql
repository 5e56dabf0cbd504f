-- discard: gives up what waits or has failed for a recipient; a_recipient_gets_a_message_once
select restante_discard($1, $2, $3) as "was_discarded!"
