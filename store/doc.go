// Package store holds the nouns, the legal steps between them, and their durable form in one SQLite file.
package store
