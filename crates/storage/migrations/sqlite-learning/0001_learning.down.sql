DROP TABLE evaluations;
DROP TABLE shown;
DROP TABLE vectors;
DROP TABLE evidence;
DROP TABLE interactions;
DROP TABLE kinds;
DROP TABLE lease;
DROP TABLE stages;
