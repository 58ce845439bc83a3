# Makes a configuration from UCI with the sections and options that the package of mosquitto has: mosquitto,
# persistence, listener and bridge. Sourced by the init script.

# brooklet_from_uci PACKAGE: prints the configuration.
brooklet_from_uci() {
	uci -q show "$1" | awk -v package="$1" '
		# Each option of a kind of section: its kind of value and, after a colon, the keyword if that has another name.
		BEGIN {
			quote = sprintf("%c", 39)
			order = "mosquitto persistence listener bridge"
			table["mosquitto"] = "log_dest/words no_remote_access/local port acl_file allow_anonymous/bool " \
				"allow_duplicate_messages/bool clientid_prefixes connection_messages/bool include_dir log_facility " \
				"log_timestamp/bool log_types/words:log_type max_inflight_bytes max_inflight_messages max_queued_bytes " \
				"max_queued_messages message_size_limit password_file pid_file psk_file queue_qos0_messages/bool " \
				"set_tcp_nodelay/bool protocol sys_interval upgrade_outgoing_qos user per_listener_settings/bool"
			table["persistence"] = "client_expiration:persistent_client_expiration autosave_interval " \
				"autosave_on_changes/bool persistence/bool store_clean_interval location:persistence_location"
			table["listener"] = "http_dir max_connections mount_point protocol use_username_as_clientid/bool " \
				"websockets_log_level cafile capath certfile ciphers crlfile keyfile require_certificate/bool " \
				"tls_version use_identity_as_username/bool use_subject_as_username/bool psk_hint auth_plugin"
			table["bridge"] = "address attempt_unsubscribe/bool:bridge_attempt_unsubscribe " \
				"protocol_version:bridge_protocol_version cleansession/bool keepalive_interval idle_timeout " \
				"local_clientid local_password local_username notifications/bool notifications_local_only/bool " \
				"notification_topic clientid:remote_clientid remote_clientid password:remote_password " \
				"remote_password username:remote_username remote_username restart_timeout round_robin/bool start_type " \
				"threshold topic/list try_private/bool cafile:bridge_cafile capath:bridge_capath " \
				"certfile:bridge_certfile identity:bridge_identity insecure/bool:bridge_insecure " \
				"keyfile:bridge_keyfile psk:bridge_psk tls_version:bridge_tls_version"
		}

		# A line is PACKAGE.SECTION=KIND or PACKAGE.SECTION.OPTION=VALUES, in which each value is in quotes.
		{
			at = index($0, "=")
			path = substr($0, length(package) + 2, at - length(package) - 2)
			rest = substr($0, at + 1)
			dot = match(path, /\.[^.]*$/)
			if (!dot) {
				sections[++count] = path
				kinds[path] = rest
			} else {
				read_values(path, rest)
				if (substr(path, dot + 1) ~ /^auth_opt_/)
					plugins[substr(path, 1, dot - 1)] = plugins[substr(path, 1, dot - 1)] " " substr(path, dot + 1)
			}
		}

		# A quote in a value is written as four characters: it ends the value, escapes a quote, and goes on.
		function read_values(path, text,    value, n) {
			n = 0
			while (substr(text, 1, 1) == quote) {
				text = substr(text, 2)
				value = ""
				for (;;) {
					at = index(text, quote)
					if (!at)
						return
					value = value substr(text, 1, at - 1)
					text = substr(text, at + 1)
					if (substr(text, 1, 3) != "\\" quote quote)
						break
					value = value quote
					text = substr(text, 4)
				}
				values[path, ++n] = value
				sub(/^ /, "", text)
			}
			numbers[path] = n
		}

		function truth(value) {
			return value ~ /^(1|on|true|yes|enabled)$/ ? "true" : "false"
		}

		function has(section, option) {
			return numbers[section "." option] > 0 && values[section "." option, 1] != ""
		}

		function emit(section, row,    parts, option, kind, keyword, path, n, i, words) {
			split(row, parts, ":")
			keyword = parts[2]
			split(parts[1], words, "/")
			option = words[1]
			kind = words[2]
			keyword = keyword == "" ? option : keyword
			path = section "." option
			if (!has(section, option))
				return
			if (kind == "local") {
				if (truth(values[path, 1]) == "true")
					print "bind_address localhost"
			} else if (kind == "bool")
				print keyword " " truth(values[path, 1])
			else if (kind == "list")
				for (i = 1; i <= numbers[path]; i++)
					print keyword " " values[path, i]
			else if (kind == "words")
				for (i = 1; i <= numbers[path]; i++) {
					n = split(values[path, i], words, " ")
					for (at = 1; at <= n; at++)
						print keyword " " words[at]
				}
			else
				print keyword " " values[path, 1]
		}

		function head(section, kind,    local) {
			if (kind == "listener") {
				if (!has(section, "port"))
					return "the listener " section " has no port"
				local = truth(values[section ".no_remote_access", 1]) == "true"
				print "listener " values[section ".port", 1] (local ? " 127.0.0.1" : "")
			}
			if (kind == "bridge") {
				if (!has(section, "connection") || !has(section, "address") || !has(section, "topic"))
					return "the bridge " section " has no connection, address or topic"
				print "connection " values[section ".connection", 1]
			}
			return ""
		}

		END {
			print "# Made from the configuration " package " of UCI."
			n = split(order, kinds_in_order, " ")
			for (k = 1; k <= n; k++)
				for (s = 1; s <= count; s++) {
					section = sections[s]
					kind = kinds_in_order[k]
					if (kinds[section] != kind)
						continue
					why = head(section, kind)
					if (why != "") {
						print "# Left out: " why
						continue
					}
					rows = split(table[kind], row, " ")
					for (r = 1; r <= rows; r++)
						emit(section, row[r])
					rows = split(plugins[section], row, " ")
					for (r = 1; r <= rows; r++)
						emit(section, row[r])
					# The store is another file than the database of mosquitto.
					if (kind == "persistence" && has(section, "file"))
						print "# Left out: persistence_file " values[section ".file", 1]
				}
		}'
}
