package store

import (
	"strconv"
	"strings"
)

// The names of what a server makes on the engine. Apps are named by [a-z0-9-] only, so a name in which the app ends in
// ".", "/" or "_" is never the name of anything of another app. A name that is stored in a row is used as it is, and
// comes before what these functions give: earlier servers made other names.

// shortID returns the part of the server's id that is in names, ID8 below.
func shortID(serverID string) string { return serverID[:min(8, len(serverID))] }

// ContainerName returns the name of a deployment's container, shipgate-ID8.APP.N.
func ContainerName(serverID, app string, deployment int64) string {
	return "shipgate-" + shortID(serverID) + "." + app + "." + itoa(deployment)
}

// DeploymentOf returns the deployment that a container of this name was made for, by the present or an earlier server.
func DeploymentOf(container string) (deployment int64, ok bool) {
	number := container[strings.LastIndexAny(container, ".-")+1:]
	deployment, err := strconv.ParseInt(number, 10, 64)
	return deployment, err == nil
}

// CommandName returns the name of the container of a deployment's release command, shipgate-ID8.APP.N.release.
func CommandName(serverID, app string, deployment int64) string {
	return ContainerName(serverID, app, deployment) + ".release"
}

// VolumeName returns the name of an app's volume on the engine, shipgate-ID8.APP.VOLUME.
func VolumeName(serverID, app, volume string) string {
	return "shipgate-" + shortID(serverID) + "." + app + "." + volume
}

// NetworkName returns the name of the network that all apps' containers are on, shipgate-ID8.apps.
func NetworkName(serverID string) string { return "shipgate-" + shortID(serverID) + ".apps" }

// ProjectName returns the Compose project of an app's stack, shipgate-ID8_APP_. It ends in "_", so that what Compose
// appends to it does not make it another app's.
func ProjectName(serverID, app string) string {
	return "shipgate-" + shortID(serverID) + "_" + app + "_"
}

// ImageRepository returns the repository of an app's images, shipgate-ID8/APP. The tag is the deployment.
func ImageRepository(serverID, app string) string { return "shipgate-" + shortID(serverID) + "/" + app }

// CacheID returns the id of one of an app's BuildKit caches, shipgate-ID8/APP/KEY. The key may be anything: the prefix
// ends before it.
func CacheID(serverID, app, key string) string {
	return ImageRepository(serverID, app) + "/" + strings.TrimPrefix(key, "/")
}

// Names that servers up to 47a093d made. They are in use until each app's next deployment, volumes for as long as they
// are there.

// OldContainerName returns the name that a deployment's container had.
func OldContainerName(app string, deployment int64) string { return app + "-" + itoa(deployment) }

// OldProjectName returns the Compose project that an app's stack had.
func OldProjectName(app string) string { return "shipgate-" + app }

// OldCommandName returns the name that the container of a deployment's release command had.
func OldCommandName(app string, deployment int64) string {
	return OldContainerName(app, deployment) + "-release"
}

// OldVolumeName returns the name that an app's volume had. Two apps can have it in common: the volume's labels say
// whose it is.
func OldVolumeName(app, volume string) string { return "shipgate-" + app + "-" + volume }

// OldNetworkName returns the name that the network had.
func OldNetworkName(serverID string) string { return "shipgate-" + shortID(serverID) }
