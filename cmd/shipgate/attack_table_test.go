package main

// plainDockerfile is one that nothing is wrong with.
const plainDockerfile = "FROM scratch\nCOPY testapp /testapp\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n"

const notPublic, reserved, beyond = "not a public host", "reserved", "reaches beyond the app"

// attackGroups are all attacks. What is in braces is filled in with what attackScene.know found out.
var attackGroups = map[string]attackGroup{
	"container": {
		app:    "raider",
		create: []string{"--source", "dockerfile", "--volume", "data:/data", "--memory", "256m", "--cpus", "0.5", "--calls", "shop"},
		files: map[string]string{
			"Dockerfile":    plainDockerfile,
			"shipgate.yaml": "resources: {memory: 64g, cpus: 64, pids: 100000}\n",
		},
		attacks: containerAttacks,
	},
	"Dockerfile": {app: "raider-build", create: []string{"--source", "dockerfile"}, attacks: dockerfileAttacks},
	"site":       {app: "raider-site", create: []string{"--source", "static", "--publish-dir", "."}, attacks: siteAttacks},
	"image":      {app: "raider-image", create: []string{"--image", "nobody.example/x:1", "--port", "8080"}, attacks: imageAttacks},
	"token":      {app: "raider-token", create: []string{"--source", "static"}, attacks: tokenAttacks},
	"compose": {
		app: "raider-stack", create: []string{"--source", "compose", "--service", "db"}, stacks: true,
		files: map[string]string{"Dockerfile": plainDockerfile, "compose.yaml": `name: "{market project}"
services:
  db:
    build: .
    hostname: db
    container_name: "{db name}"
    environment: {PORT: "5432", APP_VERSION: stolen}
    expose: ["5432"]
    networks: {default: {aliases: [db, web, "{db name}", "{web name}"]}}
`},
		attacks: composeAttacks,
	},
}

// containerAttacks come from the hostile app's running container.
var containerAttacks = map[string]attempt{
	"connect to another app":               {try: probe("tcp", "{shop}:8080"), stopped: "i/o timeout"},
	"send datagrams to another app":        {try: probe("udp", "{shop}:8080"), stopped: "i/o timeout"},
	"ping another app":                     {try: probe("icmp", "{shop}"), stopped: "resource temporarily unavailable"},
	"connect to a stack's routed service":  {try: probe("tcp", "{web}:8080"), stopped: "i/o timeout", stack: true},
	"connect to a stack's database":        {try: probe("tcp", "{db}:5432"), stopped: "i/o timeout", stack: true},
	"send datagrams to a stack's database": {try: probe("udp", "{db}:5432"), stopped: "i/o timeout", stack: true},

	"resolve another app":              {try: probe("name", "shop"), stopped: "lookup"},
	"resolve a stack's service":        {try: probe("name", "db"), stopped: "lookup", stack: true},
	"resolve a stack's container":      {try: probe("name", "{db name}"), stopped: "lookup", stack: true},
	"call an app that does not allow":  {try: probe("http", "http://shop.internal/"), stopped: "raider may not call shop"},
	"call an app in another's name":    {try: probe("http", "http://{gateway}/ shop.internal:80 market"), stopped: "raider may not call shop"},
	"call an app that is not in calls": {try: probe("http", "http://{gateway}/ market.internal market"), stopped: "raider may not call market"},
	"call an app by its public host":   {try: probe("http", "http://{gateway}/ shop.localhost market"), stopped: "only APP.internal is answered here"},

	"open a packet socket":           {try: probe("packet", ""), stopped: "not permitted"},
	"make a device":                  {try: probe("device", ""), stopped: "not permitted"},
	"have a link-local address":      {try: probe("linklocal", ""), stopped: "no IPv6 address"},
	"change the kernel's settings":   {try: probe("write", "/proc/sys/kernel/core_pattern"), stopped: "read-only file system"},
	"raise the limits":               {try: raiseLimits, stopped: "memory 268435456 cpus 500000000 pids 512"},
	"read another app's volume":      {try: probe("file", "/data/secret"), stopped: "no such file"},
	"read another app's image":       {try: probe("file", "/secret"), stopped: "no such file"},
	"read the data directory":        {try: probe("file", "{data}/secret.key"), stopped: "no such file"},
	"reach the API by the gateway":   {try: probe("http", "http://{gateway}:{api port}/"), stopped: "connection refused"},
	"reach the host's loopback":      {try: probe("http", "http://{gateway}:{canary port}/"), stopped: "connection refused"},
	"reach the host's loopback here": {try: probe("http", "http://{canary}/"), stopped: "connection refused"},
	"reach the proxy's control":      {try: probe("unix", "{data}/proxy.sock"), stopped: "no such file"},
	"reach the engine":               {try: probe("unix", "/var/run/docker.sock"), stopped: "no such file"},
	"steal a session cookie":         {try: stealCookie, stopped: "first=1; last=1"},
}

// dockerfileAttacks come from a Dockerfile that is pushed.
var dockerfileAttacks = map[string]attempt{
	"FROM another app's image":                   {try: pushDockerfile("FROM {shop image}"), stopped: "is of app shop"},
	"FROM another app's image with registry":     {try: pushDockerfile("FROM index.docker.io/{shop image}"), stopped: "is of app shop"},
	"FROM another app's image by id":             {try: pushDockerfile("FROM {shop id}"), stopped: "sha256"},
	"FROM another app's image by digits":         {try: pushDockerfile("FROM {shop hex}"), stopped: "invalid repository name"},
	"FROM another app's image by a digest":       {try: pushDockerfile("FROM {shop image}@{shop id}"), stopped: "is of app shop"},
	"FROM another app's image by argument":       {try: pushDockerfile("ARG X={shop image}\nFROM $X"), stopped: "is of app shop"},
	"FROM a stack's image":                       {try: pushDockerfile("FROM {market image}"), stopped: "is of app market", stack: true},
	"COPY from another app's image":              {try: pushDockerfile("FROM scratch\nCOPY --from={shop image} /secret /"), stopped: "is of app shop"},
	"mount another app's image":                  {try: runInBuild("--mount=from={shop image},target=/x", "file /x/secret"), stopped: "is of app shop"},
	"cache with another app's id":                {try: runInBuild("--mount=type=cache,id=loot,target=/cache", "file /cache/loot"), stopped: "no such file"},
	"cache with a path to another app's":         {try: runInBuild("--mount=type=cache,id=../shop/loot,target=/cache", "file /cache/loot"), stopped: "no such file"},
	"connect to another app from a build":        {try: runInBuild("", "tcp {shop}:8080"), stopped: "i/o timeout"},
	"connect to a stack's database from a build": {try: runInBuild("", "tcp {db}:5432"), stopped: "i/o timeout", stack: true},
	"reach the host's loopback from a build":     {try: runInBuild("", "http http://{canary}/"), stopped: "connection refused"},
	"cache with another app's whole id":          {try: runInBuild("--mount=type=cache,id={shop cache},target=/cache", "file /cache/loot"), stopped: "no such file"},
	"ADD from localhost":                         {try: pushDockerfile("FROM scratch\nADD http://localhost:{canary port}/ /x"), stopped: notPublic},
	"build in the host's network":                {try: runInBuild("--network=host", "http http://{canary}/"), stopped: "neither the host's network"},
	"build without a sandbox":                    {try: runInBuild("--security=insecure", "packet"), stopped: "neither the host's network"},
	"ADD from the host's loopback":               {try: pushDockerfile("FROM scratch\nADD http://{canary}/ /x"), stopped: notPublic},
	"ADD from a short address":                   {try: pushDockerfile("FROM scratch\nADD http://127.1:{canary port}/ /x"), stopped: notPublic},
	"ADD from an address as a number":            {try: pushDockerfile("FROM scratch\nADD http://2130706433:{canary port}/ /x"), stopped: notPublic},
	"ADD from an IPv6 form of the address":       {try: pushDockerfile("FROM scratch\nADD http://[::ffff:127.0.0.1]:{canary port}/ /x"), stopped: notPublic},
	"ADD from a variable":                        {try: pushDockerfile("FROM scratch\nARG H={canary}\nADD http://$H/ /x"), stopped: notPublic},
	"ADD from the gateway":                       {try: pushDockerfile("FROM scratch\nADD http://{gateway}:{canary port}/ /x"), stopped: notPublic},
	"ADD from a cloud's metadata":                {try: pushDockerfile("FROM scratch\nADD http://169.254.169.254/latest /x"), stopped: notPublic},
	"ADD from git on the host's loopback":        {try: pushDockerfile("FROM scratch\nADD http://{canary}/x.git /x"), stopped: notPublic},
	"ADD over SSH from the host":                 {try: pushDockerfile("FROM scratch\nADD git@127.0.0.1:x.git /x"), stopped: "ADD git@127.0.0.1"},
	"FROM a registry on the host's loopback":     {try: pushDockerfile("FROM {canary}/x:1"), stopped: notPublic},
	"a frontend on the host's loopback":          {try: pushDockerfile("# syntax={canary}/x:1\nFROM scratch"), stopped: "syntax"},
	"LABEL with another app's name":              {try: pushDockerfile("FROM scratch\nCOPY testapp /\nLABEL dev.shipgate.app=shop"), stopped: reserved},
	"LABEL of a container of ours":               {try: pushDockerfile("FROM scratch\nCOPY testapp /\nLABEL dev.shipgate.container={shop name}"), stopped: reserved},
	"LABEL with another stack's project":         {try: pushDockerfile("FROM scratch\nCOPY testapp /\nLABEL com.docker.compose.project={market project}"), stopped: reserved},
}

// siteAttacks come from the shipgate.yaml of a static site.
var siteAttacks = map[string]attempt{
	"build.cache out of the app's":       {try: pushRepoFile("build: {image: a.example/x, command: x, output: out, cache: [/../shop/loot]}"), stopped: "build.cache"},
	"build.cache with commands":          {try: pushRepoFile("build: {image: a.example/x, command: x, output: out, cache: ['/a,id=loot']}"), stopped: "build.cache"},
	"build.image of another app":         {try: pushRepoFile("build: {image: '{shop image}', command: x, output: out}"), stopped: "is of app shop"},
	"build.image on the host's loopback": {try: pushRepoFile("build: {image: '{canary}/x:1', command: x, output: out}"), stopped: notPublic},
	"publish what is not the app's":      {try: pushRepoFile("publish_dir: ../../secret.key"), stopped: "publish_dir"},
	"hosts of another app":               {try: pushRepoFile("hosts: [shop.localhost]"), stopped: "hosts is not a key"},
	"volumes of another app":             {try: pushRepoFile("volumes: [{name: data, path: /data}]"), stopped: "volumes is not a key"},
	"trust for another repository":       {try: pushRepoFile("trust: [{repository: x/y}]"), stopped: "trust is not a key"},
}

// imageAttacks come from the API, for an app whose source is an image.
var imageAttacks = map[string]attempt{
	"another app's image":             {try: deployImage("{shop image}"), stopped: "is of app shop"},
	"another app's image by id":       {try: deployImage("{shop id}"), stopped: "sha256"},
	"another app's image by digits":   {try: deployImage("{shop hex}"), stopped: "not a reference"},
	"an image on the host's loopback": {try: deployImage("{canary}/x:1"), stopped: notPublic},
}

// composeAttacks come from a compose file that is pushed, and from the stack of it that was accepted.
var composeAttacks = map[string]attempt{
	"take the traffic of another stack's service": {try: takeTraffic, stopped: "the victim's own service answers"},
	"connect to another stack's database":         {try: probe("tcp", "{db}:5432"), stopped: "i/o timeout"},
	"connect to another app":                      {try: probe("tcp", "{shop}:8080"), stopped: "i/o timeout"},

	"volume of another app by name":   {try: pushShared("volumes: {v: {name: '{shop volume}'}}"), stopped: beyond},
	"volume with labels":              {try: pushShared("volumes: {v: {labels: {dev.shipgate.app: shop}}}"), stopped: beyond},
	"network of another stack":        {try: pushShared("networks: {default: {name: '{market project}_default', external: true}}"), stopped: beyond},
	"network of the engine":           {try: pushShared("networks: {default: {name: bridge, external: true}}"), stopped: beyond},
	"network on the host's interface": {try: pushShared("networks: {default: {driver: macvlan, driver_opts: {parent: lo}}}"), stopped: beyond},
	"secret from the host's file":     {try: pushShared("secrets: {s: {file: /etc/shadow}}"), stopped: beyond},
	"config from the host's file":     {try: pushShared("configs: {c: {file: ../../../etc/shadow}}"), stopped: beyond},
	"include from the host's file":    {try: pushShared("include: [/etc/passwd]"), stopped: "outside of the repository"},

	"labels of another app":       {try: pushService("labels: {dev.shipgate.app: shop}"), stopped: "not the stack's to set"},
	"labels of another project":   {try: pushService("labels: {com.docker.compose.project: '{market project}'}"), stopped: "not the stack's to set"},
	"another app's image":         {try: pushCompose("services: {db: {image: '{shop image}'}}"), stopped: "is of app shop"},
	"another app's image by id":   {try: pushCompose("services: {db: {image: '{shop hex}'}}"), stopped: "not a reference"},
	"build in the host's network": {try: pushCompose("services: {db: {build: {context: ., network: host}}}"), stopped: "not possible"},

	"the data directory":               {try: pushService("volumes: ['../../..:/data']"), stopped: beyond},
	"another container's volumes":      {try: pushService("volumes_from: ['container:{shop name}']"), stopped: beyond},
	"another container's processes":    {try: pushService("pid: 'container:{shop name}'"), stopped: beyond},
	"the host's processes":             {try: pushService("pid: host"), stopped: beyond},
	"another container's memory":       {try: pushService("ipc: 'container:{shop name}'"), stopped: beyond},
	"all capabilities":                 {try: pushService("cap_add: [ALL]"), stopped: beyond},
	"answering for neighbours":         {try: pushService("sysctls: {net.ipv4.conf.all.proxy_arp: 1}"), stopped: beyond},
	"a service from the host's file":   {try: pushService("extends: {file: /etc/passwd, service: x}"), stopped: "outside of the repository"},
	"a command as root after a start":  {try: pushService("post_start: [{command: [x], privileged: true}]"), stopped: beyond},
	"a program of the host":            {try: pushService("provider: {type: sh}"), stopped: "not possible"},
	"the engine's control":             {try: pushService("use_api_socket: true"), stopped: beyond},
	"volume of another app, external":  {try: pushShared("volumes: {v: {name: '{shop volume}', external: true}}"), stopped: beyond},
	"volume that is the host's folder": {try: pushShared("volumes: {v: {driver: local, driver_opts: {type: none, o: bind, device: /}}}"), stopped: beyond},
	"network of all apps":              {try: pushShared("networks: {default: {name: '{network}', external: true}}"), stopped: "{network}"},
	"network of another name":          {try: pushShared("networks: {default: {name: '{market project}_default'}}"), stopped: beyond},
	"build of another folder":          {try: pushCompose("services: {db: {build: ../..}}"), stopped: "outside of the repository"},
	"the host's folder":                {try: pushService("volumes: ['/:/host']"), stopped: beyond},
	"the engine's socket":              {try: pushService("volumes: ['/var/run/docker.sock:/s']"), stopped: beyond},
	"another container's network":      {try: pushService("network_mode: 'container:{shop name}'"), stopped: beyond},
	"the host's network":               {try: pushService("network_mode: host"), stopped: beyond},
	"links to another container":       {try: pushService("external_links: ['{db name}:db']"), stopped: beyond},
	"capabilities":                     {try: pushService("cap_add: [NET_RAW]"), stopped: beyond},
	"privileges":                       {try: pushService("privileged: true"), stopped: beyond},
	"devices":                          {try: pushService("devices: [/dev/mem]"), stopped: beyond},
	"without seccomp":                  {try: pushService("security_opt: ['seccomp:unconfined']"), stopped: beyond},
	"variables from the host's file":   {try: pushService("env_file: /etc/shadow"), stopped: beyond},
	"a log on the host's network":      {try: pushService("logging: {driver: syslog, options: {syslog-address: 'tcp://{canary}'}}"), stopped: beyond},
}

// tokenAttacks come over the API and git, with a deploy token of one app.
var tokenAttacks = map[string]attempt{
	"change the own environment":   {try: ask("PATCH", "/api/v1/apps/raider-token/env", `{"set":{"LD_PRELOAD":"/x"}}`), stopped: "403"},
	"list the own environment":     {try: ask("GET", "/api/v1/apps/raider-token/env", ""), stopped: "403"},
	"change the own configuration": {try: ask("PATCH", "/api/v1/apps/raider-token", `{"config":{}}`), stopped: "403"},
	"destroy the own app":          {try: ask("DELETE", "/api/v1/apps/raider-token", ""), stopped: "403"},
	"trust another repository":     {try: ask("POST", "/api/v1/apps/raider-token/trust", `{}`), stopped: "403"},
	"create an app":                {try: ask("POST", "/api/v1/apps", `{"name":"more","config":{}}`), stopped: "403"},
	"create a token":               {try: ask("POST", "/api/v1/tokens", `{"rights":["admin"]}`), stopped: "403"},
	"list tokens":                  {try: ask("GET", "/api/v1/tokens", ""), stopped: "403"},
	"read the audit log":           {try: ask("GET", "/api/v1/audit", ""), stopped: "403"},
	"read registries":              {try: ask("GET", "/api/v1/registries", ""), stopped: "403"},
	"set a registry":               {try: ask("PUT", "/api/v1/registries/docker.io", `{}`), stopped: "403"},
	"connect GitHub":               {try: ask("PUT", "/api/v1/github", `{}`), stopped: "403"},
	"collect garbage":              {try: ask("POST", "/api/v1/gc", `{}`), stopped: "403"},
	"examine the server":           {try: ask("GET", "/api/v1/doctor", ""), stopped: "403"},
	"read metrics of all":          {try: ask("GET", "/metrics", ""), stopped: "403"},
	"see other apps in the list":   {try: listApps, stopped: "only its own"},

	"see another app":               {try: tellApart("GET", "/api/v1/apps/NAME", "shop", "none"), stopped: "403"},
	"see another app's plan":        {try: tellApart("GET", "/api/v1/apps/NAME/plan", "shop", "none"), stopped: "403"},
	"see another app's log":         {try: tellApart("GET", "/api/v1/apps/NAME/logs", "shop", "none"), stopped: "403"},
	"see another app's deployments": {try: tellApart("GET", "/api/v1/apps/NAME/deployments", "shop", "none"), stopped: "403"},
	"see another app's environment": {try: tellApart("GET", "/api/v1/apps/NAME/env", "shop", "none"), stopped: "403"},
	"change another's environment":  {try: tellApart("PATCH", "/api/v1/apps/NAME/env", "shop", "none"), stopped: "403"},
	"change another app":            {try: tellApart("PATCH", "/api/v1/apps/NAME", "shop", "none"), stopped: "403"},
	"destroy another app":           {try: tellApart("DELETE", "/api/v1/apps/NAME", "shop", "none"), stopped: "403"},
	"stop another app":              {try: tellApart("POST", "/api/v1/apps/NAME/stop", "shop", "none"), stopped: "403"},
	"start another app":             {try: tellApart("POST", "/api/v1/apps/NAME/start", "shop", "none"), stopped: "403"},
	"restart another app":           {try: tellApart("POST", "/api/v1/apps/NAME/restart", "shop", "none"), stopped: "403"},
	"roll another app back":         {try: tellApart("POST", "/api/v1/apps/NAME/deployments", "shop", "none"), stopped: "403"},
	"upload to another app":         {try: tellApart("POST", "/api/v1/apps/NAME/uploads", "shop", "none"), stopped: "403"},
	"see another's deployment":      {try: tellApart("GET", "/api/v1/deployments/NAME", "1", "999"), stopped: "404"},
	"follow another's deployment":   {try: tellApart("GET", "/api/v1/deployments/NAME/events", "1", "999"), stopped: "404"},
	"cancel another's deployment":   {try: tellApart("POST", "/api/v1/deployments/NAME/cancel", "1", "999"), stopped: "404"},

	"push to another app":               {try: pushTo("shop"), stopped: "403"},
	"push to an app that is not there":  {try: pushTo("none"), stopped: "403"},
	"clone another app":                 {try: cloneOf("shop"), stopped: "403"},
	"forge a session":                   {try: openPage("1.9999999999.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), stopped: "401"},
	"see another's page with a session": {try: openPage(""), stopped: "404"},
	"use a session for the API":         {try: useSession, stopped: "401"},
}
