package deploy

import "sync"

// keyedMutex is one lock for each app. The zero value is ready to use.
type keyedMutex struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

// lock waits for the app's lock. Call unlock when done.
func (k *keyedMutex) lock(app string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	lock := k.locks[app]
	if lock == nil {
		lock = &sync.Mutex{}
		k.locks[app] = lock
	}
	k.mu.Unlock()
	lock.Lock()
	return lock.Unlock
}
