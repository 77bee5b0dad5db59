-- What a document has is looked up by the document alone, with every write, and by SQLite itself
-- whenever a document's row is deleted.
DROP INDEX chunks_by_document;
CREATE INDEX chunks_by_document ON chunks (document_id, generation_id, ordinal);
CREATE INDEX generation_documents_by_document ON generation_documents (document_id);
