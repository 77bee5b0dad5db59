-- A key for some models would be worth more to the former version, which knows no such limit.
DELETE FROM api_key_secrets WHERE key_id IN (SELECT id FROM api_keys WHERE models IS NOT NULL);
DELETE FROM api_keys WHERE models IS NOT NULL;
ALTER TABLE api_keys DROP COLUMN models;
