package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func (c *cli) siteCommand() *cobra.Command {
	command := &cobra.Command{Use: "site", Short: "Files of static sites", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.sitePurgeCommand())
	return command
}

func (c *cli) sitePurgeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "purge APP [PATH]", Short: "Serve files of earlier releases no longer: all, or those under a path", Args: cobra.RangeArgs(1, 2),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			body, what := map[string]string{}, "files"
			if len(args) == 2 {
				body["path"], what = args[1], "files under "+args[1]
			}
			var purged struct {
				Releases int `json:"releases"`
			}
			if err := server.call(command.Context(), http.MethodPost, "/api/v1/apps/"+url.PathEscape(args[0])+"/purge", body, &purged); err != nil {
				return err
			}
			return c.print(purged, func(w io.Writer) {
				fmt.Fprintf(w, "%s of %d earlier releases are served no longer\n", what, purged.Releases)
			})
		},
	}
}
