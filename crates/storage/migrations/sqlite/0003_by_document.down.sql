DROP INDEX generation_documents_by_document;
DROP INDEX chunks_by_document;
CREATE INDEX chunks_by_document ON chunks (generation_id, document_id, ordinal);
