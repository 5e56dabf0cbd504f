-- What ended since a cursor is read in turn, a page at a time: one transaction may end more than a page (a member who leaves,
-- and for whom thousands of messages waited), so the transaction alone is no place to go on from.
drop index endings_by_sender;
create index endings_by_sender on endings (sender_id, ended_xid, message_id, user_id);
comment on index endings_by_sender is 'What a sender has to be told after it was away, in turn.';
