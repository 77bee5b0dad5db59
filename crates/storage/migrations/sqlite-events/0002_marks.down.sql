DROP TABLE appended_once;
DROP TABLE marks;
