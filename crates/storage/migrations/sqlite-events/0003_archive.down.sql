ALTER TABLE names DROP COLUMN is_lasting;
DROP TABLE archived;
