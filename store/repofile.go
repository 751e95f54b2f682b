package store

// RepoFileName is the file in a commit that may say how to build and run it.
const RepoFileName = "shipgate.yaml"
