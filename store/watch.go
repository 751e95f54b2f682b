package store

import "sync"

// QueueTopic changes whenever a deployment is put into any queue.
const QueueTopic = "queue"

// AppsTopic changes whenever an app is created or updated.
const AppsTopic = "apps"

// DeploymentTopic changes with every event, step and request of one deployment.
func DeploymentTopic(id int64) string { return "deployment:" + itoa(id) }

// watchers wakes those who tail the tables. It carries no data: who wakes reads the truth.
type watchers struct {
	mu     sync.Mutex
	topics map[string]map[chan struct{}]bool
}

// Watch gives a channel that holds a token after each change of the topic. Call stop when done.
func (s *Store) Watch(topic string) (changed <-chan struct{}, stop func()) {
	return s.watchers.add(topic)
}

func (w *watchers) add(topic string) (<-chan struct{}, func()) {
	token := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.topics == nil {
		w.topics = map[string]map[chan struct{}]bool{}
	}
	if w.topics[topic] == nil {
		w.topics[topic] = map[chan struct{}]bool{}
	}
	w.topics[topic][token] = true
	return token, func() { w.remove(topic, token) }
}

func (w *watchers) remove(topic string, token chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.topics[topic], token)
	if len(w.topics[topic]) == 0 {
		delete(w.topics, topic)
	}
}

func (w *watchers) wake(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token := range w.topics[topic] {
		select {
		case token <- struct{}{}:
		default: // a token is there already
		}
	}
}
