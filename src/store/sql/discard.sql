-- discard: gives up what waits or has failed for a recipient, which is noted; a_recipient_gets_a_message_once
select restante_discard($1, $2, $3, $4, $5) as "was_discarded!"
