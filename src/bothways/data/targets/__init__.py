"""What a picture is labelled with: the reader of tables, weights of classes, and mixing in a batch."""
