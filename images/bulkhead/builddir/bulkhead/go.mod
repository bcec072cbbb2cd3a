module gokrazy/build/bulkhead

go 1.26.8

require bulkhead v0.0.0-00010101000000-000000000000

replace bulkhead => ../../../..
