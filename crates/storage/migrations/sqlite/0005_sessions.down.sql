DROP TABLE session_passages;
DROP TABLE session_messages;
DROP TABLE sessions;
