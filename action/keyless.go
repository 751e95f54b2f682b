package action

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// authenticate uses the token of the inputs or, without one, exchanges the job's identity for one.
func (s *server) authenticate(ctx context.Context) error {
	if s.inputs.token != "" {
		s.token = s.inputs.token
		s.out.mask(s.token)
		return nil
	}
	ask, bearer := s.out.getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), s.out.getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if ask == "" || bearer == "" {
		return &problem{Code: "unauthorised", Message: "there is no token, and the job has no identity (pull requests from forks never get one)",
			Hint: "add to the job: permissions: {contents: read, id-token: write}; or give the input token"}
	}
	s.asked = func(ctx context.Context) (string, error) { return s.exchange(ctx, ask, bearer) }
	return s.renew(ctx)
}

// renew gets another token where that is possible: one from an identity lives shorter than some builds.
func (s *server) renew(ctx context.Context) (err error) {
	if s.asked == nil {
		return &problem{Code: "unauthorised", Message: "the server does not take the token", Hint: "shipgate token create --rights read,deploy --app " + s.inputs.app}
	}
	s.token = ""
	s.token, err = s.asked(ctx)
	return err
}

// exchange takes a new identity for each try: one is good for one exchange, and the answer to that may be lost.
func (s *server) exchange(ctx context.Context, ask, bearer string) (token string, err error) {
	err = patiently(ctx, func() (again bool, err error) {
		identity, again, err := s.identity(ctx, ask, bearer)
		if err != nil {
			return again, err
		}
		s.out.mask(identity)
		body, err := json.Marshal(map[string]string{"token": identity, "app": s.inputs.app})
		if err != nil {
			return false, fmt.Errorf("encode request: %w", err)
		}
		var got struct {
			Token string `json:"token"`
		}
		if again, err = s.callOnce(ctx, http.MethodPost, "/api/v1/oidc/exchange", nil, body, &got); err != nil {
			return again, err
		}
		s.out.mask(got.Token)
		token = got.Token
		return false, nil
	})
	return token, err
}

const identityPatience = 20 * time.Second

// identity asks the runner for the job's identity token, made for our server.
// https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
func (s *server) identity(ctx context.Context, ask, bearer string) (value string, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, identityPatience)
	defer cancel()
	audience := s.inputs.audience
	if audience == "" {
		audience = s.inputs.server
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, ask+"&audience="+url.QueryEscape(audience), nil)
	if err != nil {
		return "", false, fmt.Errorf("ask the runner for an identity: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := s.http.Do(request)
	if err != nil {
		return "", true, &problem{Code: "unreachable", Message: "the runner gives no identity: it does not answer", Hint: "run the job again"}
	}
	defer response.Body.Close()
	var got struct {
		Value string `json:"value"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&got)
	if err != nil || response.StatusCode != http.StatusOK || got.Value == "" {
		refused := response.StatusCode >= 400 && response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests
		return "", !refused, &problem{Code: "unreachable", Message: "the runner gives no identity: it answers " + response.Status, Hint: "run the job again"}
	}
	return got.Value, false, nil
}
