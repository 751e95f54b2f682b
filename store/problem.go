package store

import (
	"errors"
	"fmt"
)

// Code classifies a Problem. It alone decides the exit status, the HTTP status and the commit-status state.
type Code string

// The codes a Problem can have.
const (
	CodeUsage        Code = "usage"        // the request makes no sense as written
	CodeUnauthorised Code = "unauthorised" // no token, or one that does not allow this
	CodeNotFound     Code = "not_found"    // the thing named does not exist
	CodeConflict     Code = "conflict"     // it exists already, or moved on meanwhile
	CodeFailed       Code = "failed"       // the user's code or configuration is at fault
	CodeErrored      Code = "errored"      // our side: engine, disk, network
	CodeUnreachable  Code = "unreachable"  // the server cannot be reached or did not answer in time
	CodeCancelled    Code = "cancelled"    // someone asked for it to stop
)

// Problem is the one error that users see: what went wrong and the next command to type.
type Problem struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	cause   error
}

// Problemf makes a Problem without a hint. A %w in the format keeps the cause for errors.Is and errors.As.
func Problemf(code Code, format string, args ...any) *Problem {
	err := fmt.Errorf(format, args...)
	return &Problem{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// WithHint returns the same problem with the next command to type.
func (p *Problem) WithHint(format string, args ...any) *Problem {
	hinted := *p
	hinted.Hint = fmt.Sprintf(format, args...)
	return &hinted
}

func (p *Problem) Error() string { return p.Message }

// Unwrap gives the error the problem was made from, if any.
func (p *Problem) Unwrap() error { return p.cause }

// AsProblem returns the Problem inside err, or the one that explains an error of the disk or the database.
func AsProblem(err error) (*Problem, bool) {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem, true
	}
	problem = diskProblem(err)
	return problem, problem != nil
}

// CodeOf gives the code of the Problem inside err, and CodeErrored for any other error.
func CodeOf(err error) Code {
	if problem, ok := AsProblem(err); ok {
		return problem.Code
	}
	return CodeErrored
}
