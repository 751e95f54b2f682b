package githubtest

// Take has a branch say what a clone on disk says, as a push from there does, and delivers the webhook of it.
func (f *Fake) Take(r *Repository, branch, clone string) (sha string, d Delivery, err error) {
	ref := "refs/heads/" + branch
	before := r.resolve(ref)
	if _, err := r.run("", "fetch", "-q", clone, "+HEAD:"+ref); err != nil {
		return "", Delivery{}, err
	}
	sha = r.resolve(ref)
	d, err = f.Announce(r, ref, before, sha)
	return sha, d, err
}
