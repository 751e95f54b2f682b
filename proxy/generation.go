package proxy

// Generation is raised when a server needs a newer proxy than may run already. A server hands a proxy of a lower one over
// to its own binary when it starts. scripts/generation.sh holds each change of this package and of what it reads to the
// decision whether that is needed; the sums are in generation.sum.
const Generation = 4
