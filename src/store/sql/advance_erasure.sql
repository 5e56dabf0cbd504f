-- advance_erasure: moves the place of an erasure, unless it has begun anew or is at another stage; a_user_is_erased_once
update erasures e set stage = $5, chat_id = $6, seq = $7
where e.user_id = $1 and e.asked_at = $2 and e.round = $3 and e.stage = $4 and e.done_at is null
